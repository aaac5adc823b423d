// What is slow: commands that run now, those in the server's log, and those of the profiler where it is on. Alike ones are counted
// together, by their shape; no value of any document or query is shown.
//
//   mongosh "$URI" --file slow-queries.js
//
// Needs the built-in roles clusterMonitor and read on the database, or root. It looks at the member that $URI leads to. The log
// is what the server keeps of it in memory, some 1,000 lines; it has what took longer than its slowms, 100 ms by default.
//
//   DATABASE   the service's database, dossier by default
//   SLOW_MS    from how many milliseconds on, 100 by default
//   COUNT      how many shapes at most, the costliest first, 20 by default

(() => {
  const database = process.env.DATABASE || "dossier";
  const slow = Number(process.env.SLOW_MS || 100);
  const count = Number(process.env.COUNT || 20);
  if (!(slow >= 0)) throw new Error("SLOW_MS must be a number from 0 up");
  if (!(count >= 1)) throw new Error("COUNT must be a number from 1 up");
  const isOurs = (namespace) => (namespace || "").startsWith(`${database}.`);

  // The parts of a command in which there are values; all else of it is how it is to be run.
  const parts = ["filter", "query", "q", "sort", "pipeline", "projection", "fields", "update", "u", "updates", "deletes", "key"];

  function isPlain(value) {
    return Object.prototype.toString.call(value) === "[object Object]" && !value._bsontype;
  }

  function shapeOf(value) {
    if (Array.isArray(value)) {
      const shapes = [...new Set(value.map(shapeOf))];
      return `[${shapes.join(", ")}]`;
    }
    if (!isPlain(value)) return "?";
    const members = Object.entries(value).map(([name, inner]) => `${name}: ${shapeOf(inner)}`);
    // As in Extended JSON, which the log is written in: {"$oid": "…"} is one value.
    if (members.length === 1 && /^\$(oid|date|number\w+|binary|uuid|timestamp|regularExpression)/.test(members[0])) return "?";
    return `{${members.join(", ")}}`;
  }

  function shapeOfCommand(kind, command) {
    const shown = parts.filter((part) => typeof command[part] === "object").map((part) => `${part} ${shapeOf(command[part])}`);
    const name = Object.keys(command)[0];
    return [name === "q" ? kind : name, ...shown].join(" ").slice(0, 300);
  }

  const shapes = new Map();

  function add(source, milliseconds, { ns, type, op, command, originatingCommand, planSummary, docsExamined }) {
    // The parts of a bulk write come by themselves too, each under its collection.
    if (!isOurs(ns) || ns.endsWith(".$cmd") || milliseconds < slow) return;
    const shape = `${ns} ${shapeOfCommand(type || op, originatingCommand || command || {})}`;
    const known = shapes.get(shape) || { times: 0, "most, ms": 0, "all, ms": 0, examined: 0, plan: "", seen: "" };
    known.times += 1;
    known["most, ms"] = Math.max(known["most, ms"], Math.round(milliseconds));
    known["all, ms"] += Math.round(milliseconds);
    known.examined = Math.max(known.examined, Number(docsExamined || 0));
    known.plan = planSummary || known.plan;
    if (!known.seen.includes(source)) known.seen = known.seen ? `${known.seen}, ${source}` : source;
    shapes.set(shape, known);
  }

  const running = [{ $currentOp: { allUsers: true } }, { $match: { active: true, microsecs_running: { $exists: true } } }];
  for (const operation of db.getSiblingDB("admin").aggregate(running).toArray()) {
    const { cursor = {} } = operation;
    const { originatingCommand } = cursor;
    add("now", Number(operation.microsecs_running) / 1000, { ...operation, type: undefined, originatingCommand });
  }

  let unreadable = 0;
  for (const line of db.adminCommand({ getLog: "global" }).log.filter((text) => text.includes('"Slow query"'))) {
    try {
      const { attr } = JSON.parse(line);
      add("log", attr.durationMillis, attr);
    } catch {
      unreadable += 1;
    }
  }

  const profile = db.getSiblingDB(database).getCollection("system.profile");
  for (const entry of profile.find({ ns: { $ne: `${database}.system.profile` } }).toArray()) {
    add("profiler", entry.millis, entry);
  }

  const costliest = [...shapes].sort(([, one], [, other]) => other["all, ms"] - one["all, ms"]).slice(0, count);
  print(`Commands on ${database} that took ${slow} ms or more`);
  if (costliest.length) console.table(Object.fromEntries(costliest));
  else print("none");
  if (unreadable) print(`${unreadable} lines of the log are too long to be kept whole, and could not be read`);
})();
