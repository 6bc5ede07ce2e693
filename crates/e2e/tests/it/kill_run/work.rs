//! The Jobs and Apps of the kill run. Each replica writes what it did into a file of its own, so that the
//! judge needs nobody's word for it.

use serde_json::{Value, json};
use std::path::Path;

/// What a Job is for, which says how it must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One replica that succeeds.
    Single,
    /// Two or three replicas that succeed together.
    Gang,
    /// A hundred runs of their own.
    Array,
    /// Fails in its first attempt.
    Retry,
    /// Uses more memory than it may.
    Oom,
    /// Cancelled while it waits or runs.
    Cancel,
    /// Suspended while it waits or runs, and resumed.
    Suspend,
    /// Of a high priority: what runs may have to make room.
    Urgent,
}

/// One Job as it was submitted.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Replicas, or runs of an array.
    pub(crate) n_replicas: u32,
    /// Lines that each prints.
    pub(crate) n_lines: u32,
}

/// Runs of the array.
pub(crate) const ARRAY: u32 = 100;

impl Work {
    pub(crate) fn new(kind: Kind, number: usize) -> Work {
        let n_replicas = match kind {
            Kind::Gang => 2 + u32::from(number.is_multiple_of(5)),
            Kind::Array => ARRAY,
            Kind::Single
            | Kind::Retry
            | Kind::Oom
            | Kind::Cancel
            | Kind::Suspend
            | Kind::Urgent => 1,
        };
        let n_lines = match kind {
            Kind::Array | Kind::Retry => 8,
            // Until it is cancelled: on a busy machine the request may come after minutes.
            Kind::Cancel => 36_000,
            Kind::Suspend => 25,
            Kind::Single | Kind::Gang | Kind::Oom | Kind::Urgent => 10 + (number % 15) as u32,
        };
        let word = format!("{kind:?}").to_lowercase();
        Work {
            name: format!("{word}-{number}"),
            kind,
            n_replicas,
            n_lines,
        }
    }

    /// The Job's YAML.
    pub(crate) fn manifest(&self, marks: &Path) -> String {
        // The lock is held by all that the program starts: what outlives its attempt is seen by the next one.
        let begin = format!(
            "me={}/$MOONSHOT_JOB.${{MOONSHOT_ARRAY_INDEX:-$MOONSHOT_INDEX}}\n\
             exec 9>$me.lock; flock -n 9 || echo overlap $MOONSHOT_ATTEMPT >> $me\n\
             echo start $MOONSHOT_ATTEMPT >> $me\n",
            marks.display()
        );
        let body = match self.kind {
            Kind::Oom => "exec tail /dev/zero\n".to_owned(),
            Kind::Retry => "[ $MOONSHOT_ATTEMPT -ge 2 ] || exit 3\n".to_owned() + &self.lines(),
            Kind::Single
            | Kind::Gang
            | Kind::Array
            | Kind::Cancel
            | Kind::Suspend
            | Kind::Urgent => self.lines(),
        };
        let end = "echo done $MOONSHOT_ATTEMPT >> $me\n";
        let mut spec = json!({
            "command": ["sh", "-c", format!("{begin}{body}{end}")],
            "resources": {"cpu": "50m", "memory": "24Mi"},
            "retry": {"limit": 3, "backoff": "300ms", "outOfMemory": false},
            "grace": "2s",
        });
        let more = match self.kind {
            Kind::Array => json!({"array": {"count": self.n_replicas}}),
            Kind::Gang => json!({"groups": [{"name": "worker", "replicas": self.n_replicas}]}),
            Kind::Urgent => json!({"priority": 500}),
            Kind::Single | Kind::Retry | Kind::Oom | Kind::Cancel | Kind::Suspend => json!({}),
        };
        merge(&mut spec, more);
        format!(
            "apiVersion: moonshot/v1\nkind: Job\nmetadata: {{name: {}}}\nspec: {spec}\n---\n",
            self.name
        )
    }

    fn lines(&self) -> String {
        format!(
            "i=0; while [ $i -lt {} ]; do i=$((i+1)); echo line $MOONSHOT_JOB ${{MOONSHOT_ARRAY_INDEX:-$MOONSHOT_INDEX}} $MOONSHOT_ATTEMPT $i; sleep 0.1; done\n",
            self.n_lines
        )
    }
}

fn merge(into: &mut Value, more: Value) {
    let (Value::Object(into), Value::Object(more)) = (into, more) else {
        unreachable!("both are objects")
    };
    into.extend(more);
}

/// An App that answers its own name. It does not look up its host's name as Python's server does, which can take many seconds.
pub(crate) fn app(name: &str) -> String {
    let program = format!(
        "import http.server, os, socketserver\n\
         class S(http.server.ThreadingHTTPServer):\n  server_bind = socketserver.TCPServer.server_bind\n\
         class H(http.server.BaseHTTPRequestHandler):\n  protocol_version = 'HTTP/1.1'\n  def do_GET(self):\n    body = b'{name}'\n    self.send_response(200)\n    self.send_header('Content-Length', str(len(body)))\n    self.end_headers()\n    self.wfile.write(body)\n  def log_message(self, *args): pass\n\
         S(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()"
    );
    let spec = json!({
        "route": {"auth": "none"},
        "template": {
            "command": ["python3", "-c", program],
            "resources": {"cpu": "150m", "memory": "64Mi"},
            "ports": [{"name": "http"}],
        },
    });
    format!("apiVersion: moonshot/v1\nkind: App\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}
