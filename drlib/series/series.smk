# The series as a Snakemake workflow: one rule per notebook. `drlib run` calls it; what is stale has been removed before
# (drlib/series/workflow.py), so Snakemake makes what is missing, in order. All inputs are `ancient`: content decides, not dates.
import sys

from drlib.series.workflow import Series

series = Series(**config | {"root": Path(config["root"])})


rule all:
    input:
        [str(series.executed(name)) for name in series.chapters],


for position, chapter in enumerate(series.chapters.values()):

    rule:
        name:
            f"chapter_{chapter.name}"
        input:
            [ancient(str(series.executed(needed))) for needed in chapter.needs],
        output:
            str(series.executed(chapter.name)),
        params:
            chapter=chapter.name,
            parameters=str(series.folder / "series.json"),
            python=sys.executable,
        priority: len(series.chapters) - position
        shell:
            "{params.python:q} -m drlib.series.execute {params.parameters:q} {params.chapter:q}"
