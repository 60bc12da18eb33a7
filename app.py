"""IP-Adapter Studio: `python app.py`, `gradio app.py`, or a Space."""

from __future__ import annotations

import os
from pathlib import Path

from ipa_app.runtime import (
    allow_many_files,
    begin_log,
    compile_backend,
    device_name,
    end_when_told,
    end_with_a_sentence,
    is_on,
    limit_malloc_arenas,
    named_folder,
    root_path,
    temporary_folder,
    thread_count,
    whole_number,
)

end_when_told()
end_with_a_sentence()
limit_malloc_arenas()
allow_many_files()
# Libraries read these variables when they are imported below.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Gradio would keep ten thousand calls and sum them up after each one, for an analytics page that is not served.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")
for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
    # Gradio would listen at every address for an empty name, and fails at an empty port.
    if not os.environ.get(name, "").strip():
        os.environ.pop(name, None)
os.environ["GRADIO_TEMP_DIR"] = str(named_folder(os.environ, "GRADIO_TEMP_DIR") or temporary_folder())
os.environ.setdefault("OMP_NUM_THREADS", str(thread_count(whole_number(os.environ, "IPA_REPLICAS", 1))))
# Waiting threads soon stop spinning: another program may need the core.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# Checked before the imports below: Gradio reads it at import and fails with a traceback if it is not a number.
PORT = whole_number(os.environ, "GRADIO_SERVER_PORT", 0) or None
ROOT_PATH = root_path(os.environ)

from ipa_app.engine.keeping import build_keeper  # noqa: E402
from ipa_app.engine.queue import Limits  # noqa: E402
from ipa_app.library.library import is_shown, open_library  # noqa: E402
from ipa_app.models.adapter_set import largest_added  # noqa: E402
from ipa_app.models.catalog import catalog  # noqa: E402
from ipa_app.ui.blocks import StudioBlocks  # noqa: E402
from ipa_app.ui.clearing import begin_clearing  # noqa: E402
from ipa_app.ui.examples import read_examples  # noqa: E402
from ipa_app.ui.operations import operator_routes, serve, serve_until_told  # noqa: E402
from ipa_app.ui.page import build_page  # noqa: E402
from ipa_app.ui.studio import Studio  # noqa: E402
from ipa_app.ui.theme import CSS_FILE, build_theme  # noqa: E402
from ipa_app.ui.zero_gpu import build_engine  # noqa: E402

DEFAULT_MODEL = "toybox"
EXAMPLES = Path(__file__).resolve().parent / "assets" / "examples"
LIMITS = Limits.from_environment(os.environ)
FINISH_SECONDS = whole_number(os.environ, "IPA_FINISH_SECONDS", 60)
# Each waiting request holds a thread of its own; the extra ones serve requests that do not draw.
THREADS = LIMITS.total + 64

engine = build_engine(
    catalog(),
    device=device_name(os.environ),
    exact=is_on(os.environ, "IPA_EXACT"),
    compile_backend=compile_backend(os.environ),
    limits=LIMITS,
)
manager = engine.manager
keeper = build_keeper(open_library(os.environ), shows=is_shown(os.environ))
studio = Studio(engine=engine, manager=manager, keeper=keeper)
demo = build_page(studio, examples=read_examples(EXAMPLES), default_model=DEFAULT_MODEL).queue(max_size=LIMITS.total)


def launch(page: StudioBlocks) -> None:
    """Open the page first, then load the model in the background; return when the server has been stopped."""
    # Before serving: a page left open across a restart may reconnect at once and ask for its job.
    studio.take_up()
    begin_clearing(page)
    serve(
        page,
        engine,
        port=PORT,
        root_path=ROOT_PATH,
        theme=build_theme(),
        css_paths=[CSS_FILE],
        footer_links=["api", "settings"],
        max_file_size=largest_added(),
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
        max_threads=THREADS,
        app_kwargs={"routes": operator_routes(engine, model=DEFAULT_MODEL)},
    )
    manager.start(DEFAULT_MODEL)
    serve_until_told(page, engine, limit_s=FINISH_SECONDS)
    keeper.close()


if __name__ == "__main__":
    begin_log()
    launch(demo)
