# Free-form questions: what models answer in their own words, and the choices that become of it.

if FREE:

    rule answer_base:
        input:
            lambda wildcards: setting("questions")(wildcards) + "/README.md",
        output:
            directory(OUT + "/{model}/base/answered"),
        params:
            model=model(),
            lm_eval=setting("lm_eval"),
            train=asked(setting("questions"), train=True),
            test=asked(setting("questions")),
        log:
            LOGS + "/answer_base/{model}.log",
        benchmark:
            BENCHMARKS + "/answer_base/{model}.tsv"
        resources:
            **needs("ask"),
        shell:
            "python -m lm_eval_tasks run {params.lm_eval} --model_args {params.model} --tasks selfalign_answers"
            " --metadata {params.train} --log_samples --output_path {output}"
            " then {params.lm_eval} --model_args {params.model} --tasks selfalign_answers"
            " --metadata {params.test} --log_samples --output_path {output} > {log} 2>&1"

    rule answers:
        input:
            OUT + "/{model}/base/answered",
        output:
            directory(OUT + "/{model}/answers"),
        params:
            questions=setting("questions"),
        log:
            LOGS + "/answers/{model}.log",
        benchmark:
            BENCHMARKS + "/answers/{model}.tsv"
        shell:
            "python -m intervention answers --questions {params.questions} --answers {input} --output {output} > {log} 2>&1"

    # Asked again with other demonstrations, and in the chat prompt.
    rule answer_base_again:
        input:
            lambda wildcards: setting("questions")(wildcards) + "/README.md",
        output:
            directory(OUT + "/{model}/base/answered_again"),
        params:
            model=model(),
            in_chats=model(chat=True),
            lm_eval=setting("lm_eval"),
            template=template,
            again=asked(setting("questions"), draw=1, phase="base_again"),
            test=asked(setting("questions")),
        log:
            LOGS + "/answer_base_again/{model}.log",
        benchmark:
            BENCHMARKS + "/answer_base_again/{model}.tsv"
        resources:
            **needs("ask"),
        shell:
            "python -m lm_eval_tasks run {params.lm_eval} --model_args {params.model} --tasks selfalign_answers"
            " --metadata {params.again} --log_samples --output_path {output}"
            " then {params.lm_eval} {params.template} --model_args {params.in_chats} --tasks selfalign_answer_chats"
            " --apply_chat_template --metadata {params.test} --log_samples --output_path {output} > {log} 2>&1"

    rule answer_tuned:
        input:
            of_each(RUN + "/model/manifest.json"),
        output:
            directory(of_each(RUN + "/answered")),
        params:
            runs=each(STUDY.write_answering),
        log:
            LOGS + f"/answer_tuned/{RUNS}.log",
        benchmark:
            BENCHMARKS + f"/answer_tuned/{RUNS}.tsv"
        resources:
            **needs("ask", of_each=True),
        shell:
            "python -m lm_eval_tasks run {params.runs} > {log} 2>&1"
