"""Launches that a signal hits at random moments."""

import signal
import time

from drilling import (
    PATIENCE,
    STOPPED,
    finished,
    going_on,
    half_written,
    last,
    launch,
    numbers,
    require,
    share,
    wait,
)

STARTING, TRAINING, DRAWING = "starting", "training", "drawing"


def phase_of(workdir, since):
    """Where a launch begun at `since` stands, by the files of its workdir."""
    if (workdir / "results.nc").exists():
        return DRAWING
    folder, progress = workdir / "checkpoints", workdir / "progress.json"
    for name in half_written(workdir):
        try:
            if (folder / name).stat().st_mtime > since:
                return "writing a checkpoint"
        except FileNotFoundError:  # done meanwhile
            return "writing a checkpoint"
    if progress.exists() and progress.stat().st_mtime > since:
        return TRAINING
    return STARTING


def interrupted(drill, number):
    """Exactly `drill.kills` launches are hit by the signal. The moments are drawn from
    equal parts of the time that a launch still needs, from its first instant to its
    last. A launch that is done before its moment is compared, not counted. A new
    workdir begins after that, and after a hit that comes when all is trained. No more
    than half of the hits come before a first checkpoint."""
    drill.whole  # noqa: B018  (made first: the moments are shares of its time)
    chance, count, begun = drill.chance(), drill.kills, 0
    moments = [(i + chance.random()) / count for i in range(count)]
    chance.shuffle(moments)
    where, early, workdir = {}, 0, None
    while sum(where.values()) < count:
        if workdir is None:
            begun += 1
            workdir = drill.folder(f"{drill.log.scenario}_{begun}")
        moment = moments[sum(where.values())]
        seconds = expected(drill, workdir)
        process, since = launch(workdir), time.time()
        if early >= count // 2 and not numbers(workdir):
            wait(process, lambda w=workdir: numbers(w), "a first checkpoint")
            seconds -= drill.timeline.progress
        came = None
        if runs_until(drill, process, workdir, since, moment, seconds):
            came = hit(drill, process, number, workdir, since, moment)
        else:
            finished(process)
        if came:
            phase, had = came
            where[phase] = where.get(phase, 0) + 1
            early += not had
            if phase == DRAWING:
                workdir = to_the_end(drill, workdir)
        else:
            drill.require_same(workdir)
            workdir = None
    if workdir is not None:
        to_the_end(drill, workdir)
    after = count - early
    require(2 * after >= count, "half of the kills come after a checkpoint", where)
    listed = ", ".join(f"{v} {k}" for k, v in sorted(where.items()))
    return f"{count} hits ({listed}), {after} after a checkpoint; {begun} workdir(s)"


def to_the_end(drill, workdir):
    """Restarts a run, which now ends as the uninterrupted one."""
    said = finished(launch(workdir))
    drill.log("restarted to the end", going_on=going_on(said))
    drill.require_same(workdir)
    require(not half_written(workdir), "nothing half-written is left")


def runs_until(drill, process, workdir, since, moment, seconds):
    """Whether a launch that needs `seconds` still runs at `moment` of them; learns on
    the way how much faster or slower the machine is now than it was."""
    began, trains, gone = time.monotonic(), False, 0.0
    until_training = drill.timeline.progress
    while process.poll() is None and gone < drill.pace * moment * seconds:
        if not trains and phase_of(workdir, since) == TRAINING:
            trains = True
            drill.pace = max(0.1, (time.time() - since) / until_training)
        time.sleep(0.005)
        gone = time.monotonic() - began
    if process.poll() is not None:
        drill.pace = min(drill.pace, max(0.1, gone / seconds))
        return False
    if phase_of(workdir, since) == STARTING:
        drill.pace = max(drill.pace, gone / until_training)
    return True


def expected(drill, workdir):
    """Seconds that a launch on `workdir` will take, by the uninterrupted run's."""
    times = drill.timeline
    if (workdir / "results.nc").exists():
        return times.end - times.results + times.progress / 2
    return times.progress + (times.end - times.progress) * (1 - share(workdir))


def hit(drill, process, number, workdir, since, moment):
    """Sends the signal; (where it came, whether there was a checkpoint), or None where
    the launch was done before it came."""
    phase, before = phase_of(workdir, since), numbers(workdir)
    process.send_signal(number)
    sent = time.monotonic()
    said = process.communicate(timeout=PATIENCE)[0]
    status = process.returncode
    drill.log(
        signal.Signals(number).name,
        moment=round(moment, 3),
        after=round(time.time() - since, 2),
        where=phase,
        checkpoints=before,
        going_on=going_on(said),
        status=status,
        seconds_to_end=round(time.monotonic() - sent, 2),
        said=last(said),
    )
    if number == signal.SIGKILL:
        if status == 0:
            return None
        require(status == -signal.SIGKILL, "it was killed", status, said)
    else:
        complete = (workdir / "figures" / "figure.png").exists()
        # Before its first word; where all was trained by the launch before it, results
        # are there from the start.
        unborn = status == -number and not said and phase in (STARTING, DRAWING)
        require(
            status == STOPPED or (status == 0 and complete) or unborn,
            "SIGTERM ends with 75, or 0 if all was done",
            status,
            said,
        )
        if "Stopped and saved" in said:
            require(numbers(workdir)[-1:] > before[-1:], "it saved", before)
    return phase, bool(before)
