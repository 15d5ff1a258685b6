# What models write about questions: why a base model gives its wrong answers, and the knowledge that the questions need.
rule request:
    input:
        questions=card,
        probes=OUT + "/{model}/base/probe",
    output:
        directory(OUT + "/{model}/{domain}/{kind}{rule}/requests"),
    params:
        commands=lambda wildcards, input, output: " && ".join(
            f"python -m intervention requests {words} --questions {questions(wildcards)} --probes {input.probes}"
            f" --domain {wildcards.domain} {beliefs(wildcards, STUDY.models[wildcards.model].find_rule(wildcards.rule))}"
            f" --output {output}/{name}.parquet"
            for name, words in STUDY.list_requests(wildcards.kind).items()
        ),
    log:
        LOGS + "/request/{model}/{domain}/{kind}{rule}.log",
    benchmark:
        BENCHMARKS + "/request/{model}/{domain}/{kind}{rule}.tsv"
    shell:
        "({params.commands}) > {log} 2>&1"


rule explain:
    input:
        OUT + "/{model}/{domain}/explanations{rule}/requests",
    output:
        directory(OUT + "/{model}/{domain}/explanations{rule}/texts"),
    params:
        model=model(),
        lm_eval=setting("lm_eval"),
        asked=lambda wildcards, input: describe(requests=input[0]),
    log:
        LOGS + "/explain/{model}/{domain}{rule}.log",
    benchmark:
        BENCHMARKS + "/explain/{model}/{domain}{rule}.tsv"
    resources:
        **needs("ask"),
    shell:
        "python -m lm_eval_tasks run {params.lm_eval} --model_args {params.model} --tasks selfalign_explain"
        " --metadata {params.asked} --log_samples --output_path {output} > {log} 2>&1"


if isinstance(config.get("contexts"), dict):

    rule contexts:
        input:
            OUT + "/{model}/{domain}/contexts{rule}/requests",
        output:
            directory(OUT + "/{model}/{domain}/contexts{rule}/texts"),
        params:
            writer=f"{config['contexts']['lm_eval']} --model_args pretrained={config['contexts']['base']}",
            asked=lambda wildcards, input: describe(requests=input[0]),
        log:
            LOGS + "/contexts/{model}/{domain}{rule}.log",
        benchmark:
            BENCHMARKS + "/contexts/{model}/{domain}{rule}.tsv"
        resources:
            **needs("ask"),
        shell:
            "python -m lm_eval_tasks run {params.writer} --tasks selfalign_context"
            " --metadata {params.asked} --log_samples --output_path {output} > {log} 2>&1"
