"""Train an adapter on a frozen base model and write it in the published layout.

From the command line with pictures on disk: `python -m ipa_app.training --help`. From Python with batches of
any origin: `ipa_app.training.run.train`. Nothing here is used while the app runs.

    config                      every setting
    examples                    the batch contract: raw or encoded latents, texts, picture features
    run                         train(): resume, train, measure, sample, save, publish
    loop, loss, pace            one step after another, for an adapter
    optimization, distributed   steps, precision and processes, for any network
    adapters                    the adapter a run starts from, and how large it is
    components, encoding        the frozen base model, and what it makes of an example
    assessment, sampling        what is shown on the way: the loss with and without the picture, sheets of samples
    checkpoint, saving          stop at any time, go on exactly; the finished file, read back and compared
    reports                     what a run tells, and its log

    entries, tables, folders, lookup         what data lists, in the layouts people have
    data, copies, dataset, prepared, cache   examples: found, split, opened, encoded once and kept
    cli, console                             the command line, and what a person sees
    estimate, preflight, stopping            what a run will cost, checks before it, signals
"""
