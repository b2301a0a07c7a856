"""All steps of a build, by the vertices that the daemon reports.

A vertex that belongs to a group is part of the group's step, and so is what it prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_session.cli.step import GroupStep, Status, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from buildkit_session.engine.events import Vertex, VertexLog, VertexStatus

__all__ = ["Steps"]


class Steps:
    """The steps of one build; iterate over those that were started, in the order in which they were.

    Args:
        tail_lines: lines of output that are kept of each, for the report of a failure.
    """

    def __init__(self, *, tail_lines: int) -> None:
        self._tail_lines = tail_lines
        self._by_digest: dict[str, Step] = {}
        self._groups: dict[str, GroupStep] = {}
        self._started: dict[str, Step] = {}

    def __iter__(self) -> Iterator[Step]:
        return iter(self._started.values())

    def __getitem__(self, digest: str) -> Step:
        """The step that a vertex is or belongs to; one that nobody has heard of yet is made."""
        if digest not in self._by_digest:
            self._by_digest[digest] = Step(digest, tail_lines=self._tail_lines)
        return self._by_digest[digest]

    @property
    def known(self) -> list[Step]:
        """Every step that was reported and is not hidden, started or not."""
        steps = {id(step): step for step in self._by_digest.values()}.values()
        return [step for step in steps if step.has_started or (step.snapshot and not isinstance(step, GroupStep))]

    def update(self, vertex: Vertex) -> Step | None:
        """Take in a snapshot; return its step if it says anything new."""
        step = self._step_of(vertex)
        if not step.update(vertex):
            return None
        if step.is_completed:
            step.log.flush()
        if step.has_started:
            self._started.setdefault(step.digest, step)
        return step

    def add_log(self, log: VertexLog) -> Step:
        """Take in output; return the step that printed it."""
        step = self[log.vertex]
        step.log.add(log, step.age(log.timestamp))
        return step

    def add_status(self, status: VertexStatus) -> tuple[Step, Status]:
        """Take in progress inside a step."""
        step = self[status.vertex]
        known = step.statuses.setdefault(status.id, Status(status))
        known.latest = status
        return step, known

    def _step_of(self, vertex: Vertex) -> Step:
        group = vertex.progress_group
        if group is None:
            return self[vertex.digest]
        if group.id not in self._groups:
            self._groups[group.id] = GroupStep(group, tail_lines=self._tail_lines)
        step = self._groups[group.id]
        self._by_digest[vertex.digest] = step
        return step
