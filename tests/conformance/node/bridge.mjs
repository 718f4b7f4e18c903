// The official Node SDK as it is: one call per line of stdin, one answer per line of stdout.
import { createInterface } from "node:readline";
import OpenAI, { APIError, toFile } from "openai";

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const camel = (name) => name.replace(/_(.)/g, (_, letter) => letter.toUpperCase());

async function uploads(value) {
  if (Array.isArray(value)) return Promise.all(value.map(uploads));
  if (!value?.$upload) return value;
  const { name, data, type } = value.$upload;
  return toFile(Buffer.from(data, "base64"), name, { type });
}

async function call({ method, ids, key, headers, fields }) {
  const caller = key ? client.withOptions({ apiKey: key }) : client;
  const names = method.split(".").map(camel);
  const verb = names.pop();
  const owner = names.reduce((one, name) => one[name], caller);
  const body = {};
  for (const [name, value] of Object.entries(fields)) body[name] = await uploads(value);
  const args = [...ids];
  if (Object.keys(body).length) args.push(body);
  if (headers) args.push({ headers });
  const events = [];
  let got = {};
  if (method === "webhooks.unwrap") {
    // no call of the service: the SDK verifies what was received
    return { status: 200, body: await client.webhooks.unwrap(fields.body, fields.sent, fields.secret) };
  }
  try {
    const { data, response } = await owner[verb](...args).withResponse();
    got = Object.fromEntries(response.headers);
    if (fields.stream) {
      for await (const event of data) events.push(event);
      return { status: response.status, headers: got, events };
    }
    if (typeof data?.arrayBuffer === "function") {
      const bytes = Buffer.from(await data.arrayBuffer());
      return { status: response.status, headers: got, data: bytes.toString("base64") };
    }
    const plain = data?.getPaginatedItems ? { object: data.object, data: data.data, has_more: data.has_more } : data;
    return { status: response.status, headers: got, body: plain };
  } catch (error) {
    if (!(error instanceof APIError) || !error.error) throw error;
    return {
      status: error.status ?? 200,
      headers: error.headers ? Object.fromEntries(error.headers) : got,
      events,
      error: error.error,
      kind: error.constructor.name,
    };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await call(JSON.parse(line))) + "\n");
}
