// Makes the users, each with no more rights than it needs, and the views that the analyst reads. Run again, it sets
// their passwords, rights and views to what they should be now; so a changed password file and another run change a password.
//
//   dossier database views >views.json
//   VIEWS_FILE=views.json ADMIN_PASSWORD_FILE=… SERVICE_PASSWORD_FILE=… ANALYST_PASSWORD_FILE=… BACKUP_PASSWORD_FILE=… \
//     RESTORE_PASSWORD_FILE=… MONITOR_PASSWORD_FILE=… mongosh "$URI" --file create-users.js
//
// The first time, without any users, $URI is the primary's own machine: mongodb://127.0.0.1/?directConnection=true. Later
// any member will do. $URI needs no user, as the admin's password is known here.
//
//   admin     everything (root); signs in first, and is created where there are no users
//   dossier   the service: reads and writes its database, creates collections and indexes, drops nothing
//   analyst   reads the views analyst.*, which have no private fields, and nothing else
//   backup    reads everything (MongoDB's own role backup), and writes down in the collection audit that it did
//   restore   puts a backup into the service's database, or for a proof into the one named after it, dossier_proof
//   monitor   what the scripts for ops read: clusterMonitor, and read on the service's database
//
//   ADMIN_PASSWORD_FILE, SERVICE_…, ANALYST_…, BACKUP_…, RESTORE_…, MONITOR_…
//                files with the passwords; or ADMIN_PASSWORD, … themselves
//   VIEWS_FILE   what `dossier database views` printed: made from the document types, with what is private in each
//   DATABASE     the service's database, dossier by default; another one's users but the admin are named after it, as
//                other-dossier and other-analyst, so that services on one set are nothing to each other
//
// In a set that init-replica-set.js has just made, it also lets the other members be elected.

(() => {
  const faults = [];
  const database = process.env.DATABASE || "dossier";
  const views = readViews();
  const passwords = Object.fromEntries(
    ["admin", "service", "analyst", "backup", "restore", "monitor"].map((user) => [
      user,
      readPassword(`${user.toUpperCase()}_PASSWORD`),
    ]),
  );
  if (faults.length) throw new Error(faults.join("; "));

  function readText(variable) {
    const path = process.env[variable];
    try {
      return path && fs.readFileSync(path, "utf8");
    } catch (error) {
      faults.push(`${variable}: ${error.message}`);
    }
  }

  function readPassword(variable) {
    const given = readText(`${variable}_FILE`) || process.env[variable] || "";
    const password = given.replace(/\r?\n$/, "");
    if (!password && !faults.some((fault) => fault.startsWith(variable))) {
      faults.push(`${variable}_FILE or ${variable} is needed`);
    }
    return password;
  }

  function readViews() {
    const text = readText("VIEWS_FILE");
    try {
      if (text) return EJSON.parse(text);
    } catch {
      faults.push("VIEWS_FILE must be what `dossier database views` prints");
      return [];
    }
    if (!faults.length) faults.push("VIEWS_FILE is needed: `dossier database views` prints it");
    return [];
  }

  function primary() {
    const hello = db.hello();
    if (hello.isWritablePrimary) return db.getMongo();
    if (!hello.primary) throw new Error("there is no primary; see status.js");
    return new Mongo(`mongodb://${hello.primary}/?directConnection=true`);
  }

  function signIn(admin) {
    try {
      admin.auth("admin", passwords.admin);
      return;
    } catch (error) {
      if (error.codeName !== "AuthenticationFailed") throw error;
    }
    try {
      admin.createUser({ user: "admin", pwd: passwords.admin, roles: ["root"] });
    } catch (error) {
      if (error.codeName !== "Unauthorized") throw error;
      throw new Error(
        "the admin cannot sign in with this password; if there are no users yet, run this on the primary's own machine",
      );
    }
    admin.auth("admin", passwords.admin);
    print("admin: created");
  }

  function setRole(admin, role, privileges) {
    if (admin.getRole(role)) admin.updateRole(role, { privileges, roles: [] });
    else admin.createRole({ role, privileges, roles: [] });
  }

  function setUser(admin, name, pwd, roles) {
    const user = database === "dossier" ? name : `${database}-${name}`;
    const isThere = admin.getUser(user) !== null;
    if (isThere) admin.updateUser(user, { pwd, roles });
    else admin.createUser({ user, pwd, roles });
    print(`${user}: ${isThere ? "updated" : "created"}`);
  }

  function setViews(home) {
    const present = new Map(home.getCollectionInfos().map((info) => [info.name, info]));
    for (const { view, viewOn, pipeline } of views) {
      if (!present.has(view)) home.createView(view, viewOn, pipeline);
      else home.runCommand({ collMod: view, viewOn, pipeline });
    }
    const wanted = views.map(({ view }) => view);
    const former = [...present.values()]
      .filter(({ name, type }) => type === "view" && name.startsWith("analyst.") && !wanted.includes(name))
      .map(({ name }) => name);
    for (const view of former) home.getCollection(view).drop();
    print(`views: ${wanted.join(", ") || "none"}${former.length ? `; dropped, as no type has them: ${former}` : ""}`);
  }

  function letAllBeElected(admin) {
    const { tags = {} } = admin.hello();
    if (tags.setup !== "unfinished") return;
    const { config } = admin.runCommand({ replSetGetConfig: 1 });
    const members = config.members.map((member) => ({ ...member, priority: 1, tags: {} }));
    admin.runCommand({ replSetReconfig: { ...config, version: config.version + 1, members } });
    print("all members can be elected");
  }

  const readAndWrite = ["find", "insert", "update", "remove", "killCursors"];
  const make = ["createCollection", "createIndex", "collMod", "listCollections", "listIndexes", "collStats", "dbStats"];
  const replace = ["dropIndex", "dropCollection", "renameCollectionSameDB", "bypassDocumentValidation"];

  const server = primary();
  const admin = server.getDB("admin");
  signIn(admin);
  setViews(server.getDB(database));
  setRole(admin, `${database}-service`, [
    { resource: { db: database, collection: "" }, actions: [...readAndWrite, ...make] },
  ]);
  setRole(
    admin,
    `${database}-analyst`,
    views.map(({ view }) => ({ resource: { db: database, collection: view }, actions: ["find"] })),
  );
  setUser(admin, "dossier", passwords.service, [`${database}-service`]);
  setUser(admin, "analyst", passwords.analyst, [`${database}-analyst`]);
  setRole(admin, `${database}-backup`, [{ resource: { db: database, collection: "audit" }, actions: ["insert"] }]);
  setUser(admin, "backup", passwords.backup, ["backup", `${database}-backup`]);
  setRole(
    admin,
    `${database}-restore`,
    [database, `${database}_proof`].map((db) => ({
      resource: { db, collection: "" },
      actions: [...readAndWrite, ...make, ...replace],
    })),
  );
  setUser(admin, "restore", passwords.restore, [`${database}-restore`]);
  setUser(admin, "monitor", passwords.monitor, ["clusterMonitor", { role: "read", db: database }]);
  letAllBeElected(admin);
})();
