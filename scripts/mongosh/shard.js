// How the collections can be divided among shards, when one replica set is not enough. Prints a plan; divides nothing unless told.
//
//   mongosh "$URI" --file shard.js                     the plan, on any server
//   APPLY=users,items mongosh "$URI" --file shard.js   divides these, on a mongos
//
// The plan needs the built-in role read on the database; to apply it, clusterManager and readWrite, or root.
//
// The rules that decide:
// - A unique index has to begin with the shard key, or each shard would keep only its own values apart. So the key is the
//   part that all unique indexes of the collection begin with; where they have none in common, it cannot be sharded.
// - The index on _id is the exception: MongoDB lets it be, and then ids are unique within a shard only, unless they are the
//   key. The service draws its ids itself, so that none comes twice.
// - The key is hashed where it is one field, so that new documents go to all shards. A hashed index cannot be unique, but the
//   plain unique index on the same field stays beside it, as the same value has the same hash and so the same shard.
// - A key cannot be an array. It can be changed later (reshardCollection), which copies the collection.
// - What names the key's value asks one shard, all else asks all. The service reads and writes by id, so that without unique
//   indexes the key is _id. With another key it needs MongoDB 7.0 or newer: older ones refuse to change one document
//   of a sharded collection without the whole key.
//
//   DATABASE   the service's database, dossier by default
//   APPLY      the collections to shard, between commas; by default none, and only the plan is printed

(() => {
  const home = db.getSiblingDB(process.env.DATABASE || "dossier");
  const chosen = (process.env.APPLY || "").split(",").map((name) => name.trim()).filter(Boolean);
  const infos = home.getCollectionInfos({ type: "collection" }).filter(({ name }) => !name.startsWith("system."));
  if (!infos.length) throw new Error(`there is no database ${home.getName()}`);

  function commonBeginning(lists) {
    const [first, ...others] = lists;
    const length = first.findIndex((path, place) => others.some((other) => other[place] !== path));
    return length === -1 ? first.slice(0, Math.min(...lists.map((list) => list.length))) : first.slice(0, length);
  }

  function planFor(name) {
    const indexes = home.getCollection(name).getIndexes();
    const unique = indexes.filter((index) => index.unique).map((index) => Object.keys(index.key));
    if (!unique.length) return { key: { _id: "hashed" }, why: "no unique index" };
    const paths = commonBeginning(unique);
    const shown = unique.map((list) => list.join("+")).join(" and ");
    if (!paths.length) return { key: null, why: `${shown} are unique, and begin with no field in common` };
    if (paths.length === 1) return { key: { [paths[0]]: "hashed" }, why: `${shown} unique` };
    return { key: Object.fromEntries(paths.map((path) => [path, 1])), why: `${shown} unique` };
  }

  function said(key) {
    return key ? Object.entries(key).map(([path, kind]) => (kind === 1 ? path : `${path} (${kind})`)).join(", ") : "none";
  }

  const plans = new Map(infos.map(({ name }) => name).sort().map((name) => [name, planFor(name)]));
  print(`How ${home.getName()} can be sharded`);
  console.table(
    Object.fromEntries(
      [...plans].map(([name, { key, why }]) => [
        name,
        { documents: home.getCollection(name).estimatedDocumentCount(), "shard key": said(key), why },
      ]),
    ),
  );

  if (!chosen.length) {
    print("Nothing was changed. Small collections stay whole; to shard one, name it in APPLY, on a mongos.");
    return;
  }
  const faults = chosen.filter((name) => !plans.has(name)).map((name) => `there is no collection ${name}`);
  for (const name of chosen.filter((one) => plans.has(one) && !plans.get(one).key)) {
    faults.push(`${name} cannot be sharded: ${plans.get(name).why}`);
  }
  if (db.hello().msg !== "isdbgrid") faults.push("this is no mongos, so that nothing can be sharded here");
  if (faults.length) throw new Error(faults.join("; "));
  for (const name of chosen) {
    const { key } = plans.get(name);
    home.getCollection(name).createIndex(key);
    sh.shardCollection(`${home.getName()}.${name}`, key);
    print(`${name}: sharded by ${said(key)}`);
  }
})();
