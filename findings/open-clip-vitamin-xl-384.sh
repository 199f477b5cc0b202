#!/usr/bin/env bash
# What: open_clip's architecture ViTamin-XL-384 reads pictures of 256 x 256. Its configuration names timm's
#       vitamin_xlarge_384 and the weights listed for it are those of 384 pixels (jienengchen/ViTamin-XL-384px), but
#       the image size beside them says 256. The transform follows that, and the trunk, built for 384, takes the smaller
#       pictures as they come. ViTamin-L-384 reads 384.
# Why it matters: figures published for 384 pixels are not reproduced by the model of that name, and nothing says why.
#       force_image_size=384 gives what the name promises.
# Seen with: open_clip_torch 3.3.0, timm 1.0.31, torch 2.14.1, torchvision 0.29.1, Python 3.11; 2026-11-29. No weights
#       are downloaded: sizes do not depend on them.
# Output seen: ViTamin-L-384: trunk of 384, transform to 384
#              ViTamin-XL-384: trunk of 384, transform to 256, which the trunk takes
#       The script fails if that changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q open_clip_torch==3.3.0 timm==1.0.31 torch==2.14.1 torchvision==0.29.1

cat > "$work/size.py" <<'PY'
import open_clip
import torch

NAMES = {"ViTamin-L-384": (384, 384, ""), "ViTamin-XL-384": (384, 256, ", which the trunk takes")}
for name, (built, read, more) in NAMES.items():
    model, _, transform = open_clip.create_model_and_transforms(name)
    trunk, given = model.visual.trunk.patch_embed.img_size, transform.transforms[1].size
    print(f"{name}: trunk of {trunk[0]}, transform to {given[0]}{more}")
    assert trunk == (built, built)
    assert given == (read, read)
with torch.no_grad():
    assert model.eval().encode_image(torch.zeros(1, 3, 256, 256)).shape == (1, 1152)
PY
"$work/env/bin/python" -W ignore "$work/size.py" 2> "$work/said" || { cat "$work/said" >&2; exit 1; }
echo "as described: the one called XL-384 reads smaller pictures than its name says"
