"""Write a story as a run directory, through the same functions as the engine."""

from pathlib import Path

import yaml
from books_parts.clean_systems import Segment, Story

from qmml_md.ensemble.weights import store
from qmml_md.records.database import Commit, RunDatabase
from qmml_md.records.frames import stack
from qmml_md.records.rows import Event, ModelRow, Place, RegionRow, SegmentRow
from qmml_md.records.run_directory import RunDirectory
from qmml_md.records.segment import write_segment


def write(story: Story, root: Path) -> RunDirectory:
    """Write a story.

    Args:
        story: the run.
        root: a folder that is empty or missing.
    """
    run = RunDirectory(root)
    run.create()
    run.config.write_text(yaml.safe_dump(story.config))
    ids = [store(model, run.models)[0] for model in story.models]
    database = RunDatabase(run.database, create=True)
    try:
        _commit(story, run, database, ids)
    finally:
        database.close()
    return run


def _commit(story: Story, run: RunDirectory, database: RunDatabase, ids: list[str]) -> None:
    kept, number = [s for s in story.segments if s.frames], 0
    database.commit(Commit(regions=[RegionRow(epoch=0, step=0, core=(), atoms=())]))
    lost = [s for s in story.voided_segments if s.frames]
    # What was discarded was committed after what stood before it; the place must count those rows.
    first = kept[: _before(kept, lost)] if lost else kept
    for segment in first:
        _segment(segment, run, database, story, ids, number)
        number += 1
    if lost:
        steady = story.voided_from
        database.commit(Commit(entries=story.entries[:steady], models=[_model(story, ids, 0)]))
        for segment in lost:
            _segment(segment, run, database, story, ids, number)
            number += 1
        database.commit(Commit(entries=story.voided_entries))
        told = {"entries": len(story.voided_entries), "segments": len(lost)}
        event = Event(step=lost[0].frames[0].step - 1, time=0.0, kind="rewind", message="back", data=told)
        place = Place(entries=steady, segments=len(first), models=1)
        database.commit(Commit(rewind_to=place, events=[event]))
        for segment in kept[len(first) :]:
            _segment(segment, run, database, story, ids, number)
            number += 1
        models = [_model(story, ids, k) for k in range(1, len(story.taken))]
        database.commit(Commit(entries=story.entries[steady:], models=models))
        return
    models = [_model(story, ids, k) for k in range(len(story.taken))]
    database.commit(Commit(entries=story.entries, models=models))


def _before(kept: list[Segment], lost: list[Segment]) -> int:
    """Segments that end before the first discarded one begins."""
    start = lost[0].frames[0].step
    return sum(segment.frames[-1].step < start for segment in kept)


def _model(story: Story, ids: list[str], k: int) -> ModelRow:
    model, step, data = story.taken[k]
    parent = ids[story.taken[k - 1][0]] if k else ""
    return ModelRow(id=ids[model], step=step, parent=parent, data=data)


def _segment(
    segment: Segment, run: RunDirectory, database: RunDatabase, story: Story, ids: list[str], number: int
) -> None:
    blend = "" if segment.blend is None else ids[segment.blend]
    frames = stack(segment.frames, ids[segment.model], blend)
    digest = write_segment(run.segment(number), frames, story.particles)
    row = SegmentRow(
        id=number,
        first_step=int(frames.step[0]),
        last_step=int(frames.step[-1]),
        frames=len(frames),
        model=ids[segment.model],
        blend=blend,
        file=str(run.segment(number).relative_to(run.root)),
        sha256=digest,
    )
    database.commit(Commit(segment=row))
