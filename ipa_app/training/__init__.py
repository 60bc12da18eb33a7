"""Train an adapter on a frozen base model and write it in the published layout.

From the command line with pictures on disk: `python -m ipa_app.training --help`. From Python with batches of
any origin: `ipa_app.training.run.train`. Nothing here is used while the app runs.

    examples               the batch contract: raw or encoded latents, texts, picture features
    run                    train(): resume, train, measure, sample, save, publish
    loop, loss, pace       one step after another
    adapters               the adapter a run starts from, and how large it is
    assessment             what is shown on the way: heldout (the loss with and without the picture), sampling (sheets)
    checkpoint, saving     stop at any time, go on exactly
    publish                the finished file, read back and compared

    entries, tables, folders, lookup    what data lists, in the layouts people have
    data, dataset, prepared, cache      examples: found, split, opened, encoded once and kept
    cli, preflight, stopping, console   the command line: checks, signals, what a person sees
"""
