// The official Node client, unmodified: a picture with its previews, then an edit of it.
// npm install openai; node 08_node_client.mjs
import { writeFile } from "node:fs/promises";
import OpenAI, { toFile } from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:8000/v1", apiKey: "sk-local" });
const { data: models } = await client.models.list();
const model = models[0].id;
const look = { model, size: "512x512", seed: 7 };

const stream = await client.images.generate({
  ...look,
  prompt: "a penguin",
  stream: true,
  partial_images: 2,
});
let penguin;
for await (const event of stream) {
  const name =
    event.type === "image_generation.partial_image"
      ? `penguin-preview-${event.partial_image_index}.png`
      : "penguin.png";
  penguin = Buffer.from(event.b64_json, "base64");
  await writeFile(name, penguin);
  console.log(name);
}

const edited = await client.images.edit({
  ...look,
  prompt: "a penguin in the snow",
  image: await toFile(penguin, "penguin.png", { type: "image/png" }),
  input_fidelity: "high",
});
await writeFile("penguin-edited.png", Buffer.from(edited.data[0].b64_json, "base64"));
console.log("penguin-edited.png");
