"""Makes one planned run: python -m dyga.study.plan_worker WORLD PROFILE VARIANT SEED DATA_DIR FOLDER (DATA_DIR may be '')."""

import sys
from contextlib import ExitStack
from pathlib import Path

from dyga.config import make_config
from dyga.processes import end_interrupted, end_on_signals, end_with_parent
from dyga.provenance import InUse, locked
from dyga.study.plan import MEASURED

if __name__ == "__main__":
    end_on_signals()
    end_with_parent()
    world, profile, variant, seed, data_dir, place = sys.argv[1:]
    folder = Path(place)
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(folder, patience=0, name=".plan.lock"))
            except InUse as error:  # another process makes this run, so nothing is left to do
                print(error)
                raise SystemExit(0) from None
            if not (folder / MEASURED).exists():
                from dyga.study.plan_runs import make_run

                make_run(make_config(profile, world, variant, int(seed)), folder, Path(data_dir) if data_dir else None)
    except KeyboardInterrupt:
        end_interrupted()
