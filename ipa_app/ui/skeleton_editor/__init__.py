"""The skeleton editor: joints that are dragged with mouse, finger or arrow keys.

`component` builds it from `poses.js` (moving joints), `elements.js` (creating elements), `editor.js` (display and
interaction) and `editor.css`. Its value is the text of an OpenPose file; a value from a browser is read by
`ipa_app.pose.sheet`, like any other upload.
"""
