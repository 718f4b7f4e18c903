#!/usr/bin/env bash
# Everything with curl: a picture, its previews as they come, a job for later, an edit, a tweak.
set -euo pipefail
BASE=http://127.0.0.1:8000/v1
curl() { command curl --silent --show-error --fail --header "Authorization: Bearer sk-local" "$@"; }
json=(--header "Content-Type: application/json")
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; }  # jq does it better

curl "${json[@]}" "$BASE/images/generations" \
    --data '{"prompt": "a red fox", "size": "512x512", "seed": 7}' > answer.json
field b64_json < answer.json | base64 --decode > fox.png
image=$(field id < answer.json)

curl --no-buffer "${json[@]}" "$BASE/images/generations" \
    --data '{"prompt": "a red fox", "stream": true, "partial_images": 2}' | cut -c 1-80

location=$(curl --output /dev/null --dump-header - "${json[@]}" --header "Prefer: respond-async" \
    "$BASE/images/generations" --data '{"prompt": "a blue fox"}' \
    | tr -d '\r' | sed -n 's/^location: //p')
curl --no-buffer "${BASE%/v1}$location/events" | grep '^event' | uniq -c
curl "${BASE%/v1}$location/images/0" --output blue-fox.png

curl "$BASE/images/edits" --form image=@fox.png --form prompt="a fox in the snow" \
    --form input_fidelity=high | field b64_json | base64 --decode > snow.png

curl "${json[@]}" "$BASE/images/$image/tweaks" --data '{"delta": "asleep", "strength": 0.4}' \
    | field b64_json | base64 --decode > asleep.png
curl "$BASE/images/$image/lineage" | cut -c 1-200
