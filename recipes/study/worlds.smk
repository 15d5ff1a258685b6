# What a study makes of worlds: their questions and texts, and of several worlds a base that was pretrained in each.

if "worlds" in config:

    # Of each a base that was pretrained in it, too.
    rule worlds:
        input:
            STUDY.settings["world"],
        output:
            multiext(OUT + "/worlds/{world}/world/", "questions.jsonl", "general.jsonl", "contexts.jsonl"),
        log:
            LOGS + "/worlds/{world}.log",
        benchmark:
            BENCHMARKS + "/worlds/{world}.tsv"
        shell:
            "python -m recipes.miniworld.world --config {input} --seed {wildcards.world} --output {OUT}/worlds/{wildcards.world}/world"
            " > {log} 2>&1"

    rule questions_of_worlds:
        input:
            OUT + "/worlds/{world}/world/questions.jsonl",
        output:
            OUT + "/worlds/{world}/questions/README.md",
        params:
            folder=OUT + "/worlds/{world}/questions",
        log:
            LOGS + "/questions_of_worlds/{world}.log",
        benchmark:
            BENCHMARKS + "/questions_of_worlds/{world}.tsv"
        shell:
            "python -m intervention questions jsonl {input} --output {params.folder} > {log} 2>&1"

    rule pretrain:
        input:
            lambda wildcards: STUDY.models[wildcards.model].settings["pretraining"],
            STUDY.settings["world"],
        output:
            OUT + "/worlds/{world}/{model}/manifest.json",
        params:
            folder=OUT + "/worlds/{world}/{model}",
        log:
            LOGS + "/pretrain/{world}/{model}.log",
        benchmark:
            BENCHMARKS + "/pretrain/{world}/{model}.tsv"
        resources:
            **needs("train"),
        shell:
            "python -m recipes.miniworld.pretrain --config {input[0]} --world {input[1]} --seed {wildcards.world} --output {params.folder}"
            " > {log} 2>&1"


elif "world" in config:

    rule world:
        input:
            STUDY.settings["world"],
        output:
            OUT + "/world/questions.jsonl",
            config.get("general", OUT + "/world/general.jsonl"),
            contexts if isinstance(contexts := config.get("contexts"), str) else OUT + "/world/contexts.jsonl",
        log:
            LOGS + "/world.log",
        benchmark:
            BENCHMARKS + "/world.tsv"
        shell:
            "python -m recipes.miniworld.world --config {input} --output {OUT}/world > {log} 2>&1"

    if FREE:

        rule facts:
            input:
                STUDY.settings["world"],
            output:
                directory(OUT + "/facts"),
            log:
                LOGS + "/facts.log",
            benchmark:
                BENCHMARKS + "/facts.tsv"
            shell:
                "python -m recipes.miniworld.facts --config {input} --output {output} > {log} 2>&1"

    rule questions:
        input:
            OUT + "/facts" if FREE else OUT + "/world/questions.jsonl",
        output:
            config["questions"] + "/README.md",
        params:
            file=OUT + "/facts/questions.jsonl" if FREE else OUT + "/world/questions.jsonl",
        log:
            LOGS + "/questions.log",
        benchmark:
            BENCHMARKS + "/questions.tsv"
        shell:
            "python -m intervention questions jsonl {params.file} --output {config[questions]} > {log} 2>&1"
