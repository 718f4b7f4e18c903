#!/usr/bin/env bash
# Everything with curl: a picture, its previews as they come, a job for later, an edit, a tweak.
set -euo pipefail
HOST=http://127.0.0.1:8000
curl() { command curl --silent --show-error --fail --header "Authorization: Bearer sk-local" "$@"; }
json=(--header "Content-Type: application/json")
field() { sed -E "s/.*\"$1\":\"([^\"]*)\".*/\1/"; } # jq does it better

curl "${json[@]}" "$HOST/v1/images/generations" \
    --data '{"prompt": "a red apple", "size": "512x512", "seed": 7}' > answer.json
field b64_json < answer.json | base64 --decode > apple.png
image=$(field id < answer.json)

curl --no-buffer "${json[@]}" "$HOST/v1/images/generations" \
    --data '{"prompt": "a red apple", "stream": true, "partial_images": 2}' | cut -c 1-80

location=$(curl --output /dev/null --dump-header - "${json[@]}" --header "Prefer: respond-async" \
    "$HOST/v1/images/generations" --data '{"prompt": "a penguin"}' |
    tr -d '\r' | sed -n 's/^location: //p')
curl --no-buffer "$HOST$location/events" | grep '^event' | uniq -c
curl "$HOST$location/images/0" --output penguin.png

curl "$HOST/v1/images/edits" --form image=@apple.png --form prompt="a green apple" --form seed=7 |
    field b64_json | base64 --decode > green-apple.png

curl "${json[@]}" "$HOST/v1/images/$image/tweaks" \
    --data '{"delta": "on a yellow background", "strength": 0.8, "seed": 7}' |
    field b64_json | base64 --decode > apple-on-yellow.png
curl "$HOST/v1/images/$image/lineage" | cut -c 1-200
