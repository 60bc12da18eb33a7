"""The skeleton editor: joints that are dragged with mouse, finger or arrow keys.

`component` makes it, from `poses.js` (moving joints about), `elements.js` (making elements), `editor.js` (what is seen
and done) and `editor.css`. Its value is the text of an OpenPose file; what comes back from a browser is read by
`ipa_app.pose.sheet` like any other upload.
"""
