import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);

/** The program under test, with the console inside. */
function program(): string {
  const path = process.env.MOONSHOT_BIN;
  if (!path) throw new Error("MOONSHOT_BIN names no program; run this test with `cargo xtask test browser`");
  return path;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const address = server.address();
  await new Promise((done) => server.close(done));
  if (typeof address !== "object" || !address) throw new Error("no port");
  return address.port;
}

/** A server with its gateway in a temporary directory, and the command line that speaks to it. */
export class Installation {
  readonly examples = resolve(import.meta.dirname, "../../examples");
  private server: ChildProcess | undefined;

  private constructor(
    private readonly dir: string,
    readonly url: string,
    private readonly env: NodeJS.ProcessEnv,
  ) {}

  static async start(): Promise<Installation> {
    const dir = mkdtempSync(join(tmpdir(), "moonshot-browser-"));
    const [listen, gateway] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const data = join(dir, "data");
    const installation = new Installation(dir, `http://${listen}`, {
      ...process.env,
      HOME: dir,
      MOONSHOT_DATA_DIR: data,
      MOONSHOT_LISTEN: listen,
      MOONSHOT_GATEWAY_LISTEN: gateway,
      MOONSHOT_NODES: "2",
      MOONSHOT_SERVER: `http://${listen}`,
      MOONSHOT_TOKEN_FILE: join(data, "admin.token"),
    });
    await installation.startServer();
    return installation;
  }

  async startServer(): Promise<void> {
    const log = openSync(join(this.dir, "server.log"), "a");
    this.server = spawn(program(), ["server"], { cwd: this.dir, env: this.env, stdio: ["ignore", log, log] });
    await eventually("the server answers", async () => (await fetch(`${this.url}/readyz`)).ok);
  }

  /** kill -9 of the server; what runs goes on. */
  async killServer(): Promise<void> {
    const { server } = this;
    // `moonshot down` may have ended it.
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((done) => server.once("exit", done));
    server.kill("SIGKILL");
    await ended;
  }

  /** A command to its end; its output. */
  async moonshot(...args: string[]): Promise<string> {
    const { stdout } = await run(program(), args, { cwd: this.dir, env: this.env });
    return stdout;
  }

  /** The server's last words, for failures. */
  log(): string {
    return readFileSync(join(this.dir, "server.log"), "utf8").split("\n").slice(-40).join("\n");
  }

  async stop(): Promise<void> {
    await this.moonshot("down").catch(() => undefined);
    await this.killServer();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Waits for a condition; what it throws meanwhile counts as not yet. */
export async function eventually(
  what: string,
  condition: () => Promise<boolean>,
  seconds = 60,
): Promise<void> {
  const deadline = Date.now() + seconds * 1000;
  let last: unknown;
  while (Date.now() < deadline) {
    try {
      if (await condition()) return;
      last = undefined;
    } catch (error) {
      last = error;
    }
    await new Promise((done) => setTimeout(done, 100));
  }
  throw new Error(`not within ${seconds} s: ${what}`, { cause: last });
}
