// How the replica set does: its members, how far behind they are, elections, the oplog's window, connections, cache.
//
//   mongosh "$URI" --file status.js
//
// Needs the built-in role clusterMonitor, or root. Its last line is a verdict in plain words; the exit status is 1 unless that is
// "all is well". Connections, cache and oplog are those of the member that $URI leads to.
//
//   MAX_LAG_SECONDS       how far behind a secondary may be, 10 by default
//   MIN_OPLOG_HOURS       how long a member may be away, at the present rate of writes, and still catch up; 24 by default

(() => {
  const maxLagSeconds = Number(process.env.MAX_LAG_SECONDS || 10);
  const minOplogHours = Number(process.env.MIN_OPLOG_HOURS || 24);
  const mebibytes = (bytes) => `${Math.round(bytes / 2 ** 20)} MiB`;
  const percent = (part, whole) => `${Math.round((100 * part) / whole)} %`;
  const faults = [];

  const status = rs.status();
  const primary = status.members.find((member) => member.stateStr === "PRIMARY");
  const newest = Math.max(...status.members.map((member) => (member.optimeDate ? member.optimeDate.getTime() : 0)));
  const isBehind = (member) => member.stateStr === "SECONDARY" && lag(member) > maxLagSeconds;

  function lag(member) {
    return (newest - member.optimeDate.getTime()) / 1000;
  }

  print(`Replica set ${status.set}, term ${status.term}`);
  console.table(
    Object.fromEntries(
      status.members.map((member) => [
        member.name,
        {
          state: member.stateStr,
          "lag, s": ["PRIMARY", "SECONDARY"].includes(member.stateStr) ? lag(member) : "",
          "up, h": Math.round(member.uptime / 360) / 10,
          "ping, ms": member.pingMs === undefined ? "" : Number(member.pingMs),
          "copies from": member.syncSourceHost || "",
          "last message": member.lastHeartbeatMessage || member.infoMessage || "",
        },
      ]),
    ),
  );

  if (primary) print(`Primary: ${primary.name}, elected ${primary.electionDate.toISOString()}`);
  else faults.push("there is no primary, so that nothing can be written");
  const away = status.members.filter((member) => !["PRIMARY", "SECONDARY", "ARBITER"].includes(member.stateStr));
  for (const member of away) faults.push(`${member.name} is ${member.stateStr}`);
  for (const member of status.members.filter(isBehind)) faults.push(`${member.name} is ${lag(member)} s behind`);
  const up = status.members.length - away.length;
  if (primary && away.length && up <= status.majorityVoteCount) faults.push("one more away, and nothing can be written");

  const oplog = db.getReplicationInfo();
  const hours = Math.round(oplog.timeDiff / 360) / 10;
  const share = (oplog.usedMB / oplog.logSizeMB) * 100;
  print(`Oplog: ${hours} h in ${Math.round(oplog.usedMB)} of ${Math.round(oplog.logSizeMB)} MiB`);
  // One that is not full yet goes back to its beginning, however short that is.
  if (share > 90 && hours < minOplogHours) faults.push(`the oplog goes back ${hours} h only`);

  const server = db.serverStatus();
  const connections = server.connections.current;
  const allowed = connections + server.connections.available;
  print(`Connections: ${connections} of ${allowed}, ${server.connections.active} of them active`);
  if (connections > 0.8 * allowed) faults.push("the connections run out");
  const cache = server.wiredTiger.cache;
  const size = cache["maximum bytes configured"];
  const used = cache["bytes currently in the cache"];
  const dirty = cache["tracked dirty bytes in the cache"];
  print(`Cache: ${percent(used, size)} of ${mebibytes(size)}, ${percent(dirty, size)} not written yet`);
  if (dirty > 0.2 * size) faults.push("the disk does not keep up with what is written");

  print(`Verdict: ${faults.join("; ") || "all is well"}`);
  if (faults.length) quit(1);
})();
