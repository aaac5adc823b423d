// Makes mongods one replica set; of a set that is there, says so and changes nothing.
//
//   MEMBERS=one:27017,two:27017,three:27017 mongosh "mongodb://127.0.0.1/?directConnection=true" --file init-replica-set.js
//
// Run it on the machine of the first member, on which it becomes primary: as long as there are no users, MongoDB lets in
// only who comes from its own machine, and lets users be created only on the primary (the localhost exception). So the
// others cannot be elected until create-users.js, which is to run next, has made the users.
//
//   MEMBERS               host:port of each, between commas, as all members and all clients reach it
//   REPLICA_SET           the set's name, rs0 by default, which each mongod was started with (--replSet)
//   ELECTION_TIMEOUT_MS   how long the others wait for a silent primary, 10000 by default
//   WAIT_SECONDS          how long to wait for members and for a primary, 60 by default

(() => {
  const name = process.env.REPLICA_SET || "rs0";
  const electionTimeoutMillis = Number(process.env.ELECTION_TIMEOUT_MS || 10000);
  const waitSeconds = Number(process.env.WAIT_SECONDS || 60);
  const hosts = (process.env.MEMBERS || "").split(",").map((host) => host.trim()).filter(Boolean);

  const faults = [];
  if (!hosts.length) faults.push("MEMBERS is needed: host:port of each member, between commas");
  if (hosts.some((host) => !/^[^\s:/@]+:\d+$/.test(host))) faults.push("MEMBERS must be host:port,host:port,…");
  if (new Set(hosts).size !== hosts.length) faults.push("MEMBERS names a member twice");
  if (!(electionTimeoutMillis >= 100)) faults.push("ELECTION_TIMEOUT_MS must be a number from 100 up");
  if (!(waitSeconds > 0)) faults.push("WAIT_SECONDS must be a number above 0");
  if (faults.length) throw new Error(faults.join("; "));

  const deadline = Date.now() + waitSeconds * 1000;

  function waitFor(what, check) {
    while (!check()) {
      if (Date.now() > deadline) throw new Error(`not within ${waitSeconds} s: ${what}`);
      sleep(100);
    }
  }

  function answers(host) {
    try {
      const options = "directConnection=true&serverSelectionTimeoutMS=1000&connectTimeoutMS=1000";
      return new Mongo(`mongodb://${host}/?${options}`).getDB("admin").hello().ok === 1;
    } catch {
      return false;
    }
  }

  function initiate() {
    for (const host of hosts) waitFor(`${host} answers`, () => answers(host));
    try {
      const [first, ...others] = hosts.map((host, _id) => ({ _id, host, priority: _id === 0 ? 1 : 0 }));
      // By this create-users.js knows that it is not the operators who gave the others no priority.
      first.tags = { setup: "unfinished" };
      rs.initiate({ _id: name, members: [first, ...others], settings: { electionTimeoutMillis } });
    } catch (error) {
      if (error.codeName !== "AlreadyInitialized") throw new Error(`${name} cannot be initiated: ${error.message}`);
    }
    print(`${name} is initiated with ${hosts.join(", ")}`);
  }

  const before = db.hello();
  if (before.setName && before.setName !== name) throw new Error(`this is a member of ${before.setName}, not of ${name}`);
  if (before.setName) {
    const present = [...(before.hosts || []), ...(before.passives || [])];
    print(`${name} is initiated already, with ${present.join(", ")}`);
    const others = hosts.filter((host) => !present.includes(host));
    if (others.length) print(`not in it: ${others.join(", ")}; on the primary, rs.add("host:port") adds one`);
  } else {
    initiate();
  }
  waitFor("there is a primary that can be written to", () => {
    const { me, primary, isWritablePrimary } = db.hello();
    return primary && (primary !== me || isWritablePrimary);
  });
  const { primary, tags = {} } = db.hello();
  print(`its primary is ${primary}`);
  if (tags.setup === "unfinished") print("no other can be elected before create-users.js has run");
})();
