"""What flags beside ``--output`` make of the outputs, in buildx's order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buildkit_session import output
from buildkit_session.errors import InputError, UnsupportedError
from buildkit_session.output import CustomOutput, DockerOutput, ImageOutput
from buildkit_session.request.outputs import (
    arrange,
    check_for_engine,
    default_outputs,
    for_engine_build,
    read_outputs,
    sent,
)

if TYPE_CHECKING:
    from buildkit_session.output import Output


@pytest.mark.parametrize("given", ["out", output.local("out"), {"type": "local", "dest": "out"}, ["", "out"]])
def test_one_output_is_a_list_of_one(given: Output | str | dict[str, str] | list[str]) -> None:
    assert read_outputs(given) == (output.local("out"),)


@pytest.mark.parametrize("given", [3, [3], [None]])
def test_what_is_no_output(given: object) -> None:
    with pytest.raises(InputError, match="output"):
        read_outputs(given)  # type: ignore[arg-type]  # what is tested


@pytest.mark.parametrize("second", ["type=oci", "type=docker,dest=-", "type=tar,dest=-"])
def test_standard_output_is_taken_once(second: str) -> None:
    with pytest.raises(InputError, match="multiple outputs configured to write to stdout"):
        read_outputs(["-", second])
    assert len(read_outputs(["-", "type=docker", "type=oci,dest=a", output.tar(io.BytesIO())])) == 4


def test_push_adds_an_image_only_if_there_is_none() -> None:
    assert arrange([], push=True, tags=["a"]) == (ImageOutput("a", push=True),)
    assert arrange([output.local("o")], push=True, tags=["a"])[1] == ImageOutput("a", push=True)
    images = [output.image(), output.image(name="b")]
    assert arrange(images, push=True, tags=["a"]) == (ImageOutput("a", push=True),) * 2


def test_load_adds_an_image_only_if_none_is_loaded() -> None:
    assert arrange([output.docker("a.tar")], load=True) == (output.docker("a.tar"), DockerOutput())
    assert arrange([output.docker(compression="gzip")], load=True) == (output.docker(compression="gzip"),)


def test_push_and_load_together() -> None:
    assert arrange([], push=True, load=True, tags=["a", "b"]) == (
        ImageOutput("a,b", push=True),
        DockerOutput(attrs={"name": "a,b"}),
    )


def test_tags_replace_the_name_of_images_and_of_nothing_else() -> None:
    outputs: list[Output] = [
        output.image(name="x"),
        output.oci("a"),
        output.local("o"),
        CustomOutput("y"),
        output.cacheonly(),
    ]
    named = [out.exporter[1].get("name") for out in arrange(outputs, tags=["a:1", "b"])]
    assert named == ["a:1,b", "a:1,b", None, None, None]
    assert [out.exporter[1].get("name") for out in arrange(outputs)] == ["x", None, None, None, None]


def test_annotations_are_attributes_of_every_output() -> None:
    added = {"annotation.a": "b"}
    outputs = arrange(
        [output.local("o", platform_split=False), output.listing()], push=True, tags=["t"], annotations=added
    )
    assert [out.exporter[1].get("annotation.a") for out in outputs] == ["b", "b", "b"]
    assert outputs[0].exporter[1]["platform-split"] == "false"


@pytest.mark.parametrize(
    ("outputs", "push"), [([], True), ([output.registry()], False), (["type=image,push=1"], False)]
)
def test_a_push_needs_a_name(outputs: list[Output], push: bool) -> None:
    with pytest.raises(InputError, match="tag is needed when pushing to registry"):
        arrange(read_outputs(outputs), push=push)
    assert arrange([output.registry(name="a")], push=push)


def test_the_default_is_an_image_of_the_engine() -> None:
    assert default_outputs(docker_driver=True, environ={}) == (ImageOutput(),)
    assert default_outputs(docker_driver=False, environ={}) == ()
    assert default_outputs(docker_driver=True, environ={"BUILDX_NO_DEFAULT_LOAD": "1"}) == ()
    assert default_outputs(docker_driver=True, environ={"BUILDX_NO_DEFAULT_LOAD": "perhaps"}) == (ImageOutput(),)


def test_cacheonly_is_not_sent() -> None:
    assert sent([output.cacheonly(), output.local("o")]) == (output.local("o"),)


def test_the_engines_endpoint_keeps_an_image_to_load() -> None:
    assert for_engine_build([output.docker(), output.local("o")]) == (ImageOutput(), output.local("o"))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (output.oci("a"), "output type oci"),
        (output.docker("a"), "output type docker with dest"),
        (output.cacheonly(), "output type cacheonly"),
        (CustomOutput("foo"), "output type foo"),
        (output.registry(name="a"), "pushing"),
        (ImageOutput(attrs={"push": "true"}), "pushing"),
    ],
)
def test_what_the_engines_endpoint_cannot_serve_is_refused_rather_than_lost(out: Output, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        for_engine_build([out])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("type=registry,name=a,push-by-digest=true", "push-by-digest"),
        ("type=image,annotation-index.a=b", "index annotations"),
        ("type=docker,annotation-index-descriptor.a=b", "index annotations"),
    ],
)
def test_what_an_engine_cannot_do_with_images(out: str, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        check_for_engine(read_outputs(out), multi_platform=False)


@pytest.mark.parametrize(
    "out",
    ["type=image,push-by-digest=true", "type=image,annotation-manifest.a=b", "type=local,dest=o,annotation-index.a=b"],
)
def test_what_an_engine_can_do(out: str) -> None:
    check_for_engine(read_outputs(out), multi_platform=False)
    check_for_engine(read_outputs("type=image,annotation-index.a=b"), multi_platform=True)


@pytest.mark.parametrize("given", [Path("out"), [Path("out")], "out"])
def test_a_path_is_a_directory(given: Path | list[Path] | str) -> None:
    assert read_outputs(given) == (output.local("out"),)
