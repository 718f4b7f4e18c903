// States, limits and errors as a person would say them.

export const ENDED = new Set(["succeeded", "failed", "blocked", "cancelled", "expired"]);

export function jobWords(job) {
  const ahead = job.queue_position;
  const seconds = Math.max(1, (job.finished_at ?? 0) - job.created_at);
  switch (job.state) {
    case "queued":
      if (ahead === null) return "waiting";
      return (ahead === 0 ? "first in the queue" : `${ahead} ahead in the queue`) + eta(job);
    case "leased": return `next${eta(job)}`;
    case "running": return `drawing: ${job.passes_done} of ${job.passes_total} passes${eta(job)}`;
    case "finishing": return "finishing";
    case "succeeded": return `done in ${seconds} s`;
    default: return job.state;
  }
}

const eta = ({ eta_seconds: left }) => (left === undefined ? "" : `, ${about(left)} left`);

const about = (seconds) =>
  seconds < 100 ? `about ${Math.max(1, Math.round(seconds))} s` : `about ${Math.round(seconds / 60)} min`;

export function modelState({ available, start_seconds: start }) {
  if (!available) return "not available";
  return start === null ? "ready" : "asleep";
}

/** What there is to know of a model before it draws; nothing of one that is ready. */
export function modelWords(model) {
  if (!model.capabilities.generations) return `${model.id} draws along a picture: choose one of yours to change.`;
  switch (modelState(model)) {
    case "ready": return "";
    case "asleep":
      return `${model.id} is asleep. It starts with the first picture, in ${about(model.start_seconds)}.`;
    default: return `${model.id} is not available now. Its pictures wait until it is.`;
  }
}

export function errorWords(error) {
  if (error.code !== "moderation_blocked") return error.message;
  const { categories = [], moderation_stage: stage } = error.moderation_details || {};
  const what = stage === "input" ? "The prompt" : "The picture";
  const why = categories.length ? ` (${categories.join(", ")})` : "";
  return `Blocked. ${what} was refused by the safety screen${why}.`;
}

/** What temporary limits mean for this visitor; nothing when they are as always. */
export function limitWords(limits) {
  if (!limits.temporary) return "";
  const words = {
    images_per_day: (n) => `${n} picture${n === 1 ? "" : "s"} a day`,
    concurrent_renders: (n) => `${n} drawn at a time`,
    queued_jobs: (n) => `${n} waiting`,
  };
  const tighter = Object.keys(words)
    .filter((name) => limits[name].limit !== limits.usual[name])
    .map((name) => `${words[name](limits[name].limit)} (usually ${limits.usual[name] ?? "any number"})`);
  if (!limits.open) tighter.unshift("new accounts come in step by step");
  if (!tighter.length) return "";
  const since = new Date(limits.since * 1000).toLocaleTimeString([], { timeStyle: "short" });
  return `Temporary limits: ${tighter.join(", ")}, since ${since}. They end by themselves when the rush is over.`;
}
