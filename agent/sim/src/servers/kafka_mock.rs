//! Kafka's protocol, as the mock cluster of librdkafka speaks it (`pip install confluent-kafka`): in memory, one broker.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{Process, skip};

/// Prints the cluster's address, creates the topic `events`, and ends with its input.
const CLUSTER: &str = "
import sys
from confluent_kafka import Producer
p = Producer({'bootstrap.servers': '127.0.0.1:1', 'test.mock.num.brokers': 1})
b = list(p.list_topics(timeout=10).brokers.values())[0]
# Asking for a topic makes it, with four partitions.
p.list_topics('events', timeout=10)
print(f'{b.host}:{b.port}', flush=True)
sys.stdin.read()
";

/// A running cluster; killed when dropped.
pub struct KafkaMock {
    process: Process,
    /// Its host and port.
    pub address: String,
}

impl KafkaMock {
    /// Starts one with a topic `events` of four partitions; `None` if it is not installed.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Option<KafkaMock> {
        let python = |code: &str| {
            let mut command = Command::new("python3");
            command.arg("-c").arg(code).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
            command
        };
        let found = python("import confluent_kafka").status().is_ok_and(|status| status.success());
        if !found {
            skip("confluent-kafka is not installed");
            return None;
        }
        let mut process = Process(python(CLUSTER).spawn().unwrap());
        let mut address = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Some(KafkaMock { process, address: address.trim().to_owned() })
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// If it cannot be waited for.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}
