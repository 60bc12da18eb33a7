"""Train an adapter on a frozen base model and save it in the published layout.

From the command line, with pictures on disk: `python -m ipa_app.training --help`. From Python, with batches from
any source: `ipa_app.training.run.train`. Nothing here is used while the app runs.

    config                      every setting
    examples                    the batch contract: raw or encoded latents, texts, image features
    run                         train(): resume, train, evaluate, sample, save, publish
    loop, loss, pace            the training loop of an adapter
    optimization, distributed   optimizer steps, precision and processes, for any network
    adapters                    the adapter a run starts from, and its size
    components, encoding        the frozen base model, and how it encodes an example
    assessment, sampling        shown during training: held-out loss with and without the picture, sample sheets
    checkpoint, saving          stop at any time and resume exactly; the finished file, read back and compared
    reports                     what a run reports, and its log

    entries, tables, folders, lookup         reading the data's entries, in the layouts people have
    data, copies, dataset, prepared, cache   examples: found, split, opened, encoded once and cached
    cli, console                             the command line, and what the user sees
    estimate, preflight, stopping            the cost of a run, checks before it, signals
"""
