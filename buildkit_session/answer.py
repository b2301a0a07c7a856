"""What a frontend answers to a question in place of a build, for the caller of :meth:`Client.call`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildkit_session.engine import subrequest
from buildkit_session.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from buildkit_session.engine.check_report import CheckReport
    from buildkit_session.engine.subrequest import Call

__all__ = ["CallAnswer", "call_answer"]


@dataclass(frozen=True, slots=True)
class CallAnswer:
    """One answer.

    Attributes:
        call: what was asked.
        text: of the answer, as buildx prints it.
        error: why the Dockerfile cannot be built, as buildx prints it, where that was the question; or empty.
        exit_code: what buildx ends with: 1 for a check that found something.
        metadata: all that the frontend has said.
        filename: of the Dockerfile, as it is shown.
    """

    call: Call
    text: str
    error: str
    exit_code: int
    metadata: Mapping[str, str] = field(repr=False)
    filename: str

    @property
    def value(self) -> object:
        """What the JSON of the answer holds.

        Raises:
            EngineError: there is none.
        """
        try:
            value: object = json.loads(self.metadata.get("result.json", ""))
        except (ValueError, RecursionError) as error:
            msg = f"the frontend's answer to {self.call.name} holds no JSON; see its text"
            raise EngineError(msg) from error
        return value

    @property
    def report(self) -> CheckReport:
        """The findings of a check; empty for any other question.

        Raises:
            EngineError: the answer is not of this form.
        """
        from buildkit_session.engine.check_report import read_report  # noqa: PLC0415 - few look at it

        text = self.metadata.get("result.json", "") if self.call.name == "lint" else ""
        try:
            return read_report(text or "{}", filename=self.filename)
        except (ValueError, TypeError, RecursionError) as error:
            raise EngineError("the frontend's answer to the check cannot be read; see its metadata") from error


def call_answer(call: Call, metadata: Mapping[str, bytes], *, filename: str) -> CallAnswer:
    """Make it.

    Args:
        call: what was asked.
        metadata: of the gateway's result.
        filename: of the Dockerfile, from :func:`~buildkit_session.engine.subrequest.dockerfile_name`.

    Raises:
        EngineError: the answer is not of the form that belongs to the call.
    """
    shown = subrequest.answer(call, metadata, filename=filename)
    texts = {key: value.decode("utf-8", "replace") for key, value in metadata.items()}
    return CallAnswer(call, shown.text, shown.error, shown.exit_code, texts, filename)
