"""IP-Adapter Studio: pictures as prompts for Stable Diffusion.

Dependencies point one way::

    ui -> engine -> models, pose, imaging -> adapter

`adapter` is the method itself, `models` loads base models and adapters, `engine` turns
requests into pictures, `ui` is the page. `training` trains adapters and is not imported at run time;
the code that builds the bundled model is beside this package, in `toybox`.
"""
