"""IP-Adapter Studio: a picture as a prompt for Stable Diffusion.

Dependencies point one way::

    ui -> engine -> models, pose, imaging -> adapter

``adapter`` is the method itself, ``models`` loads base models and adapters, ``engine`` turns
requests into pictures, ``ui`` is the page. ``training`` makes adapters and ``toybox`` the bundled
model; neither is imported at run time.
"""
