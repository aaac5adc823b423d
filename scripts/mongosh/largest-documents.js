// The largest documents of each collection, and how close they are to the 16 MiB that MongoDB takes.
//
//   mongosh "$URI" --file largest-documents.js
//
// Needs the built-in role read on the database, or root. It reads every document: with "$URI" give a secondary
// (?readPreference=secondary) where that would be in the way.
//
//   DATABASE     the service's database, dossier by default
//   COLLECTION   this one only; by default all
//   COUNT        how many of each collection, 3 by default

(() => {
  const limit = 16 * 2 ** 20;
  const home = db.getSiblingDB(process.env.DATABASE || "dossier");
  const count = Number(process.env.COUNT || 3);
  if (!Number.isInteger(count) || count < 1) throw new Error("COUNT must be a whole number from 1 up");
  const collections = home
    .getCollectionInfos({ type: "collection" })
    .map(({ name }) => name)
    .filter((name) => !name.startsWith("system.") && name === (process.env.COLLECTION || name))
    .sort();
  if (!collections.length) throw new Error(`${home.getName()} has no collection ${process.env.COLLECTION || ""}`.trim());

  function largest(name) {
    return home
      .getCollection(name)
      .aggregate(
        [{ $project: { bytes: { $bsonSize: "$$ROOT" } } }, { $sort: { bytes: -1 } }, { $limit: count }],
        { allowDiskUse: true },
      )
      .toArray()
      .map(({ _id, bytes }) => [
        `${name} ${_id._bsontype === "ObjectId" ? _id.toHexString() : EJSON.stringify(_id)}`,
        { bytes, "of 16 MiB": `${((100 * bytes) / limit).toFixed(2)} %`, note: bytes > limit / 2 ? "LARGE" : "" },
      ]);
  }

  print(`The largest documents of ${home.getName()}`);
  console.table(Object.fromEntries(collections.flatMap(largest)));
})();
