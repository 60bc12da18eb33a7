"""Every sentence on the page, in one place, in plain words."""

from __future__ import annotations

from ipa_app.pose import detectors

TITLE = "IP-Adapter Studio"
TAGLINE = "Show it a picture. Get new pictures that take after it."

# --- 1: the picture
PICTURE_HEADING = "Your picture"
REFERENCE_LABEL = "Reference picture"
REFERENCE_PLACEHOLDER = "Drop a picture here\nor click to choose one"
ADD_REFERENCE = "Add another picture"
MORE_REFERENCE_LABEL = "Reference picture {number}"
SEEN_LABEL = "What the model looks at"
SEEN_HEADING = "What it looks at, and where it counts"
REFERENCES_TOGETHER = (
    "Every spot of the new picture looks at all your pictures at once and takes most from the one that fits it best. "
    "What it takes from a picture is multiplied by that picture's weight: 1 is as it is, 2 is double. At 0 a picture "
    "gives nothing, yet still draws looks away from the others; to leave it out, take it out of its box."
)
ADAPTER_LABEL = "What to take from it"
ADAPTER_HELP = (
    "Base keeps the idea and leaves room for words. Fine-grained keeps the small things too: patterns, faces, hats."
)
LEFT_OUT_ONE = "One adapter file cannot be used with this model"
LEFT_OUT_MANY = "{number} adapter files cannot be used with this model"
ADAPTER_FILE_HEADING = "Add an adapter file"
ADAPTER_FILE_HELP = (
    "An IP-Adapter that was made for the chosen model, perhaps one that you have trained: a .safetensors or .bin file. "
    "It is there for you alone, for as long as you stay."
)
ADAPTER_FILE_LABEL = "Adapter file"
ADAPTER_ADDED = "{name} is added and chosen."
LIVE_LABEL = "Redraw when the strength changes"
LIVE_HELP = "Every new strength is drawn at once, on the seed of the last picture."
WHEN_HEADING = "When it counts"
WHEN_HELP = (
    "A picture is drawn in steps: place and main colours come first, small things last. Let your picture count only "
    "later, and the words decide the layout; let it stop earlier, and the details are left to the model."
)
AWAY_HEADING = "A picture to stay away from"
AWAY_HELP = (
    "The new pictures will have less of what is in this one: a style, a colour, a kind of background. It counts only "
    "beside a reference picture."
)

# --- 2: what to make
TASK_HEADING = "What to make"
VARIATION_TAB = "Variation"
VARIATION_HELP = "New pictures of the same kind of thing. A picture is enough; words are optional."
MIX_TAB = "Text + image"
MIX_HELP = (
    "The picture says who, your words say where and how. If the words are drowned out, lower the strength; "
    "with no picture at all the words alone decide."
)
START_HEADING = "Start from a picture"
START_HELP = (
    "Optional. The new picture is drawn over this one and keeps its layout and colours, as far as you let it; "
    "it is cut to the shape of the result."
)
INPAINT_TAB = "Inpaint"
INPAINT_HELP = "Paint over part of a picture. Only what you painted is redrawn, after the reference; the rest stays."
POSE_TAB = "Pose"
POSE_HELP = "The reference says who, a stick figure says in which pose."

PROMPT_OPTIONAL_LABEL = "Words (optional)"
PROMPT_LABEL = "Words"
PROMPT_EXAMPLES = {
    "variation": "leave empty, or add a wish: on a beach",
    "mix": "waving, on a beach",
    "inpaint": "what should appear there, if the picture alone should not decide",
    "pose": "in a meadow",
}
GENERATE = "Generate"
STOP = "Stop"

INPAINT_IMAGE_LABEL = "Picture to change"
INPAINT_EDITOR_LABEL = "Paint over what should change"
INPAINT_OTHER_PICTURE = "Choose another picture"
INPAINT_MASK_ACCORDION = "Use a mask file instead of painting"
INPAINT_MASK_LABEL = "Mask: white is redrawn, black is kept; or a copy of the picture with a hole where to redraw"
EDGES_ACCORDION = "Mask and edges"
EXTEND_HEADING = "Continue the picture beyond its edges"
EXTEND_HELP = "In percent of its width or height. What is there already stays as it is; nothing needs to be painted."
MASK_SHOW = "Show the mask"
MASK_SHOWN = "What will be redrawn is pink, the more the stronger. The model sees what is inside the frame."

POSE_PRESETS_LABEL = "Choose a pose"
POSE_EDITOR_LABEL = "Change it as you like"
POSE_IMAGE_LABEL = "… or bring your own: a stick figure, a toy (with Toybox) or a photo of a person"
POSE_ASIDE = (
    "<strong>Your own picture sets the pose now</strong>; the skeleton editor has stepped aside. "
    "Choose a pose above, or press the button, to go back to it."
)
POSE_BACK = "Back to the skeleton editor"
POSE_FIND = "Find the pose in my picture and edit it"
POSE_PHOTO_HELP = f"{detectors.USUAL.help} “Stop” ends the download, and the next try goes on from there."
POSE_FOUND_ONE = "One figure was found, and is in the skeleton editor: look at it, change it, then generate."
POSE_FOUND_MANY = (
    "{count} figures were found, and are in the skeleton editor: look at them, remove whom you do not want, then "
    "generate."
)
POSE_KEYPOINTS_ACCORDION = "Keypoints from elsewhere (JSON)"
POSE_KEYPOINTS_LABEL = (
    "Paste a file of keypoints: from OpenPose or an editor for it, ControlNet, DWPose, COCO, MMPose or MediaPipe"
)
POSE_KEYPOINTS_USE = "Edit these keypoints"
POSE_KEYPOINTS_UPLOAD = "Choose a file"
POSE_CANVAS_HELP = (
    "Some files do not say how large the picture is that their points are of: then say it here, in pixels."
)
POSE_CANVAS_WIDTH = "Width of that picture"
POSE_CANVAS_HEIGHT = "Height of that picture"
POSE_CANVAS_UPLOAD = "Take them from the picture"
POSE_NO_PHOTO = "There is no picture: please add one under “bring your own” first."
POSE_NOTHING_PASTED = "There is nothing to read: please paste the content of a file of keypoints first."
POSE_FILE_TOO_LONG = (
    "This file is too long for a file of keypoints: please choose another one, with fewer pictures in it."
)
POSE_FILE_NOT_TEXT = "This file is not text: please choose a file of keypoints (JSON)."
SKELETON_LABELS = {
    "picture": "Skeleton editor",
    "help": (
        "Drag a joint to move it, a bone to move the whole figure. Double click hides or shows a joint. "
        "Hands go with their wrists, a face with its nose. "
        "By keyboard: Tab to a joint, arrow keys move it (with Shift further), Delete hides it."
    ),
    "person": "person {number}",
    "hidden": "hidden",
    "undo": "Undo",
    "redo": "Redo",
    "mirror": "Mirror",
    "mirror_help": "Swap left and right",
    "bigger": "Bigger",
    "smaller": "Smaller",
    "hide": "Hide or show joint",
    "hide_help": "The joint that was touched last",
    "remove": "Remove figure",
    "remove_help": "The one whose joint was touched last",
    "reset": "Reset",
    "reset_help": "Back to the pose as it was chosen",
    "behind": "Picture behind",
    "behind_help": "Show the newest result, or your picture, faintly behind the skeleton",
    "nothing_behind": "There is no picture yet to show behind.",
    "copy": "Copy keypoints",
    "copied": "The keypoints are copied.",
    "not_copied": "This browser does not let the page copy: please use the download instead.",
    "download": "Download keypoints",
    "download_help": "An OpenPose file (JSON)",
}
CONTROL_WHEN_HEADING = "When the pose counts"
CONTROL_WHEN_HELP = (
    "Stop earlier, at 0.6 say, and the figure keeps its pose while the last steps are free for the details."
)

# --- more settings
SETTINGS_HEADING = "More settings"
RANDOM_SEED = "A new seed every time"
NEGATIVE_PLACEHOLDER = "words for what you do not want"

# --- series
SERIES_BUTTONS = {"scale-strip": "Compare strengths 0 to 1", "both-adapters": "Compare adapters"}
STRIP_DONE = "Strengths from 0 to 1, all on seed {seed}."
COMPARE_LABEL = "Adapters to compare"
BOTH_DONE = "Left of the handle {series}, right of it {series2}, both on seed {seed}."
EACH_DONE = "One picture per adapter, all on seed {seed}."

# --- 3: results
RESULTS_HEADING = "Results"
GALLERY_LABEL = "Your new pictures"
RESULT_SETTINGS = "How these were made"
COMPARED_LABEL = "Two adapters"
MORE_LIKE_THIS = "More like this"
USE_SETTINGS = "Use its settings again"
ENLARGE = "Look at it large"
ENLARGED_LABEL = "The picked picture, large"
DOWNLOAD_ALL = "Download all (ZIP)"
DOWNLOAD_ONE = "Download"
PICKED = "Picked: picture {number} of {count}, seed {seed}. Click another one to pick it."
PICKED_ONE = "Picked: the picture with seed {seed}."
HISTORY_HEADING = "Pictures of this visit"
FROM_HISTORY = "A picture from earlier in this visit."
PICTURE_GONE = "This picture is no longer there: please make it again."
RESULT_SETTINGS_HELP = (
    "The PNG file holds all this, and small copies of the pictures it was made from: "
    "whoever gets the file gets them, too."
)
EXAMPLES_LABEL = "Or start from an example"
SEED_CAPTION = "seed {seed}"

PREVIEW_LABEL = "What is there so far"
IDLE = "Ready when you are."
NOTHING_YET = "Your new pictures will appear here.<br>Press <strong>Generate</strong> to make the first ones."
STARTING = "Sending your picture …"
PHASES = {"queued": "Waiting for your turn", "denoising": "Drawing"}
DONE_ONE = "One picture in {seconds:.1f} seconds."
DONE_MANY = "{count} pictures in {seconds:.1f} seconds."
WITHHELD_ONE = "One was withheld, because the model's safety checker took it for unsuitable (seed {seeds})."
WITHHELD_MANY = "{count} were withheld, because the model's safety checker took them for unsuitable (seeds {seeds})."
WITHHELD_CAPTION = "withheld (seed {seed})"
WITHHELD_PART_ONE = "One was withheld, because the model's safety checker took it for unsuitable."
WITHHELD_PART_MANY = "{count} were withheld, because the model's safety checker took them for unsuitable."
WITHHELD_PART_CAPTION = "{series}: withheld"
STOPPED = "Stopped."
FAILED_TITLE = "That did not work"
FAILED_INSIDE = "Something went wrong inside the app (details are in its log). Please try again."

MODEL_ABSENT = "{title}: not loaded yet"
MODEL_DOWNLOADING = "{title}: downloading"
MODEL_LOADING = "{title}: loading"
MODEL_READY = "{title} is ready"
MODEL_FAILED = "{title} could not be loaded"
LEFT_OUT = "Left out, as they cannot be used:"

MEMORY_RUNS = {
    "cuda": {
        "single": "Runs on the graphics card in single precision and takes about {size} of its memory.",
        "half": "Runs on the graphics card in half precision and takes about {size} of its memory.",
    },
    "mps": {
        "single": "Runs on the graphics chip in single precision and takes about {size} of memory.",
        "half": "Runs on the graphics chip in half precision and takes about {size} of memory.",
    },
    "cpu": {
        "single": "Runs on the processor in single precision and takes about {size} of memory.",
        "half": "Runs on the processor in half precision and takes about {size} of memory.",
    },
}
MEMORY_SAVED = {
    "half": "Only {free} of {wanted} were free, so it is held in half precision.",
    "tiled": "Only {free} of {wanted} were free, so large pictures are developed piece by piece.",
    "half tiled": (
        "Only {free} of {wanted} were free, so it is held in half precision and large pictures are developed piece by "
        "piece."
    ),
    "turns tiled": (
        "Only {free} of {wanted} were free, so one part of it is there at a time, which is slower, and large pictures "
        "are developed piece by piece."
    ),
}

OFFER_HEADING = "{title} is not on this computer yet"
OFFER_SIZE = "Download"
OFFER_SIZE_TEXT = "{size}, once. You can stop at any time and go on later."
OFFER_MEMORY = "Memory"
OFFER_MEMORY_TEXT = (
    "{gpu} GB on a graphics card. Without such a card {main} GB of ordinary memory, and each picture takes minutes."
)
OFFER_LICENCE = "Licence"
OFFER_DOWNLOAD = "Download and load"
OFFER_AGAIN = "Try again"
OFFER_DISMISS = "Not now"
OFFER_CANCEL = "Cancel"
OFFER_MEANWHILE = "You can go on with {title} meanwhile."
OFFER_STILL_WORKS = "{title} stays chosen and goes on working."

# --- settings from a picture
RESTORE_HEADING = "Take settings from a picture"
RESTORE_HELP = (
    "Drop a PNG file that was made here, and everything is set as it was: words, reference pictures, seed and all. "
    "Of pictures of AUTOMATIC1111, Forge, ComfyUI, Fooocus and InvokeAI, words, seed, steps, guidance and size count."
)
RESTORE_FILE = "A picture with its settings in it (PNG, JPEG, WebP)"
RESTORED = "Everything is set as it was. Press Generate to make the picture again."
RESTORED_OTHER_ADAPTER = (
    "Everything is set as it was, but the file of the adapter {name} is another one now than it was then: the picture "
    "may come out differently."
)

# --- what the model can draw
WORDS_HEADING = "Words {title} knows"
WORDS_HELP = "Use them in any order, with or without little words such as “a” and “in”. Other words are ignored."
UNKNOWN_ONE = "{title} does not know the word {words}; it is ignored."
UNKNOWN_MANY = "{title} does not know the words {words}; they are ignored."
SIGNS_NOTE = "{field} has {words}, read as plain letters: weights and commands of other programs do nothing here."
INVISIBLE_NOTE = "{field} had invisible characters, which were left out."
FORMS_NOTE = "{field} was read as “{words}”: its special letters were taken for ordinary ones."
TOYBOX_NOTE = (
    "<strong>Toybox</strong>, the built-in model, is small and draws <strong>toy characters only</strong>: "
    "cats, robots, ducks and their friends. It needs no internet. Pictures of other things come out as toys. "
    "It is good at places, poses and colours; small things come out rough."
)

# --- what is said of uploads
UPLOADED = "This picture"
UPLOAD_NAMES = {
    "reference": "The reference",
    "negative_reference": "The picture to stay away from",
    "image": "The picture",
    "start_image": "The start picture",
    "pose": "The pose",
}
TRANSPARENT_REFERENCE = "{field} is transparent in places, which count as a plain grey that says nothing to the model."
TRANSPARENT_POSE = "{field} is transparent in places, which count as black."
MASK_LARGE = "The mask marks {number} % of the picture; if the rest was meant, swap the mask."
MASK_ALL = "The mask is white all over, so all of the picture is redrawn."
NOT_A_FILE = "{field} must be an image file."
ONE_FILE = "{field} must be one image file, not several."
TOO_LARGE_A_FILE = "{field} is too large: it may have at most {size}."
NOT_UPLOADED = (
    "{field} is a file that was not uploaded here: please upload it first, and send the path that comes back."
)
NOT_FETCHED = "{field} could not be fetched from {address}: please check the address, or upload the picture itself."
FILE_GONE = "{field} is not on the server, where uploads are kept for a day: please add it again."
DISK_FULL_PICTURES = (
    "The app's disk is full, so the pictures could not be saved: please make room there, "
    "then load this page anew, which brings them back."
)
DISK_FULL = "The app's disk is full: please make room there, then try again."
