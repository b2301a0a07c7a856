//! A build by bollard, the Docker client for Rust: `bollard-build --output type=local|tar,dest=PATH --file DOCKERFILE`.
//!
//! Other arguments are ignored, so that it can be called as `docker buildx` is. It receives exports through a session;
//! the context, which it sends as an archive over HTTP, is the Dockerfile alone.

use std::error::Error;

use bollard::models::BuildInfo;
use bollard::query_parameters::{BuildImageOptionsBuilder, BuilderVersion, ImageBuildOutput};
use bollard::Docker;
use futures_util::StreamExt;
use http_body_util::{Either, Full};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let output = value_of("--output").ok_or("--output is missing")?;
    let dockerfile = std::fs::read(value_of("--file").ok_or("--file is missing")?)?;
    let docker = Docker::connect_with_defaults()?;
    let options = BuildImageOptionsBuilder::default()
        .dockerfile("Dockerfile")
        .version(BuilderVersion::BuilderBuildKit)
        .session(&format!("bollard-build-{}", std::process::id()))
        .networkmode("none")
        .outputs(parse_output(&output)?)
        .build();
    let context = Either::Left(Full::new(archive(&dockerfile)?.into()));
    let mut progress = docker.build_image(options, None, Some(context));
    while let Some(info) = progress.next().await {
        if let BuildInfo { error_detail: Some(detail), .. } = info? {
            return Err(detail.message.unwrap_or_default().into());
        }
    }
    Ok(())
}

fn value_of(flag: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != flag).nth(1)
}

fn parse_output(text: &str) -> Result<ImageBuildOutput, String> {
    if let Some(dest) = text.strip_prefix("type=local,dest=") {
        return Ok(ImageBuildOutput::Local(dest.into()));
    }
    let dest = text.strip_prefix("type=tar,dest=").ok_or("only type=local,dest= and type=tar,dest= are known")?;
    Ok(ImageBuildOutput::Tar(dest.into()))
}

fn archive(dockerfile: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    header.set_path("Dockerfile")?;
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, dockerfile)?;
    archive.into_inner()
}
