"""What screening in flight is good for: weapons are ordered twice over HTTP, once with two previews
of each render screened, once with the final picture alone."""

from __future__ import annotations

import statistics
from collections import Counter

from scripts.bench_safety.counting import abort_passes, passes_saved
from scripts.bench_safety.service import AT_END, BLOCKED, IN_FLIGHT, service, stages
from scripts.load import percentile
from scripts.report import say
from scripts.weapons.prompts import drawings


def measure_aborts() -> dict[str, float]:
    """abort_passes_p95: passes from the preview to the free slot, beyond the classifier's time;
    ..._with_classifier: nothing taken off. passes_saved: of renders that were blocked in flight."""
    armed = [drawing for drawing in drawings("measured") if drawing.weapon]
    with stages() as shared:
        with service(shared, IN_FLIGHT) as running:
            codes = running.order(armed)
            ends, found = running.timeline.ends, running.aborts(shared.screens)
            late_verdicts = running.bad_previews(shared.screens) - len(found)
            passes = [abort_passes(ends, abort) for abort in found]
            spent = running.timeline.passes
        with service(shared, AT_END) as running:
            late = running.order(armed)
            whole = running.timeline.passes
    blocked = {seed: spent[seed] for seed, code in codes.items() if code == BLOCKED and spent[seed]}
    say(f"in flight: {dict(Counter(codes.values()))}; {len(found)} stopped before their last pass, "
        f"{late_verdicts} bad previews told too late for that")  # fmt: skip
    say(f"at the end: {dict(Counter(late.values()))}")
    beyond, full = zip(*passes, strict=True)
    say(f"passes from preview to free slot: beyond the classifier p50 {statistics.median(beyond)}, "
        f"most {max(beyond)}; with it p50 {statistics.median(full)}")  # fmt: skip
    return {
        "abort_passes_p95": round(percentile(beyond, 95), 3),
        "abort_passes_with_classifier_p95": round(percentile(full, 95), 3),
        "aborts": len(found),
        "passes_saved": round(passes_saved(blocked, whole), 4),
    }
