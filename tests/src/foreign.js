// Answers requests on standard input with tuf-js, one JSON object a line each way.
//
// A request has `folder` (the client's own state), `root` (a file), `metadata` and `targets` (URLs) and maybe `target`.
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { Updater } = require('tuf-js');

function errorOf(error) {
  return `${error.constructor.name}: ${String(error.message).slice(0, 300)}`;
}

async function answer(request) {
  fs.mkdirSync(request.folder, { recursive: true });
  const root = path.join(request.folder, 'root.json');
  if (!fs.existsSync(root)) fs.copyFileSync(request.root, root);
  const updater = new Updater({
    metadataDir: request.folder,
    metadataBaseUrl: request.metadata,
    targetDir: request.folder,
    targetBaseUrl: request.targets,
    config: { fetchRetries: 0, fetchRetry: 0, fetchTimeout: 20000 },
  });
  await updater.refresh();
  const said = { timestamp: updater.trustedSet.timestamp.signed.version };
  if (request.target) {
    const info = await updater.getTargetInfo(request.target);
    said.found = info !== undefined;
    if (info) {
      try {
        const file = await updater.downloadTarget(info, path.join(request.folder, 'downloaded'));
        said.sha256 = crypto.createHash('sha256').update(fs.readFileSync(file)).digest('hex');
      } catch (error) {
        said.download_error = errorOf(error);
        said.status = error.statusCode;
      }
    }
  }
  return said;
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let said;
    try {
      said = await answer(JSON.parse(line));
    } catch (error) {
      said = { error: errorOf(error) };
    }
    process.stdout.write(JSON.stringify(said) + '\n');
  }
}

main();
