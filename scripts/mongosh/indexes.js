// Each index: what it takes, how often it was used and since when. Those that nothing has used are marked.
//
//   mongosh "$URI" --file indexes.js
//
// Needs the built-in roles clusterMonitor and read on the database, or root. Each member counts for itself, from its start; an
// index that only exports from secondaries use looks unused on the primary, so ask each member before you drop one.
//
//   DATABASE   the service's database, dossier by default

(() => {
  const home = db.getSiblingDB(process.env.DATABASE || "dossier");
  const collections = home
    .getCollectionInfos({ type: "collection" })
    .map(({ name }) => name)
    .filter((name) => !name.startsWith("system."))
    .sort();
  if (!collections.length) throw new Error(`there is no database ${home.getName()}`);

  function note(index, uses) {
    if (index.name === "_id_") return "";
    if (index.expireAfterSeconds !== undefined) return "removes what has expired";
    if (uses) return "";
    return index.unique ? "never used, but keeps values unique" : "UNUSED";
  }

  function usage(name) {
    const { storageStats } = home.getCollection(name).aggregate([{ $collStats: { storageStats: {} } }]).toArray()[0];
    const specifications = new Map(home.getCollection(name).getIndexes().map((index) => [index.name, index]));
    return home
      .getCollection(name)
      .aggregate([{ $indexStats: {} }, { $sort: { name: 1 } }])
      .toArray()
      .map((index) => [
        `${name}.${index.name}`,
        {
          keys: Object.entries(index.key).map(([path, order]) => (order === 1 ? path : `${path}: ${order}`)).join(", "),
          KiB: Math.ceil(storageStats.indexSizes[index.name] / 1024),
          uses: Number(index.accesses.ops),
          since: index.accesses.since.toISOString().slice(0, 16),
          note: note(specifications.get(index.name) || index, Number(index.accesses.ops)),
        },
      ]);
  }

  print(`Indexes of ${home.getName()}, as ${db.hello().me || "this server"} has used them`);
  console.table(Object.fromEntries(collections.flatMap(usage)));
})();
