"""IP-Adapter Studio: a picture as a prompt for Stable Diffusion.

Dependencies point one way::

    ui -> engine -> models, pose, imaging -> adapter

`adapter` is the method itself, `models` loads base models and adapters, `engine` turns
requests into pictures, `ui` is the page. `training` makes adapters and is not imported at run time;
what makes the bundled model lies beside the package, in `toybox`.
"""
