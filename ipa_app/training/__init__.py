"""Train an adapter on a frozen base model and write it in the published layout.

From the command line with pictures on disk: ``python -m ipa_app.training --help``. From Python with batches of
any origin: :func:`ipa_app.training.run.train`. Nothing here is used while the app runs.

    examples    the batch contract: raw or encoded latents, texts, picture features
    run         train(): resume, train, measure, sample, save, publish
    loop, loss  one step after another
    heldout     loss at fixed timesteps and noise, with and without the picture
    sampling    sample sheets on fixed seeds
    checkpoint  stop at any time, go on exactly
    publish     the finished file, read back and compared
    data, prepared, dataset, cli    the data file and the command line
"""
