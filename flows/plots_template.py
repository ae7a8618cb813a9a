"""`python -m flows.plots_template`: let `dvc plots show` work without a network.

DVC's page takes Vega from a content network and stays blank offline. The package vl-convert-python (extra `plots`) carries
the same libraries; this writes them once into `.dvc/plots.html` (git-ignored) and names it in the local DVC config.
"""

import subprocess
import sys

from models.errors import FusedialError
from tasks.workspace import project_root

PAGE = """<!DOCTYPE html>
<html>
<head>
<meta charset="utf-8">
<title>DVC plots</title>
{refresh_tag}
<style>body {{ font-family: sans-serif; margin: 2em; }} .vega-embed {{ margin-bottom: 2em; }}</style>
<script>{bundle}</script>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""


def main() -> None:
    """Write the template and configure DVC."""
    try:
        import vl_convert
    except ImportError as error:
        raise FusedialError('offline plots need the extra `plots`: pip install -c constraints.txt -e ".[plots]".') from error
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed; window.vega = vega; window.vegaLite = vegaLite;")
    page = project_root() / ".dvc" / "plots.html"
    # DVC fills {plot_divs} by plain replacement, so the braces of the script may stand as they are.
    text = PAGE.replace("{refresh_tag}\n", "").replace("{{", "{").replace("}}", "}")
    page.write_text(text.replace("{bundle}", bundle.replace("</script", "<\\/script")), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", "plots.html"], check=True)
    sys.stdout.write("dvc plots show works offline now\n")


if __name__ == "__main__":
    main()
