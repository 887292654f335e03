//! What the kernel says a process used, and which cores it may use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

/// Reads `/proc/PID`.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pid: u32,
    tick: Duration,
}

impl Account {
    /// Of a process.
    pub fn new(pid: u32) -> Account {
        let ticks = Command::new("getconf").arg("CLK_TCK").output().ok();
        let ticks =
            ticks.and_then(|output| String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok());
        Account { pid, tick: Duration::from_secs(1) / ticks.filter(|ticks| *ticks > 0).unwrap_or(100) }
    }

    /// User and system time so far; its resolution is one tick, mostly 10 ms.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let path = format!("/proc/{}/stat", self.pid);
        let stat =
            std::fs::read_to_string(&path).with_context(|| format!("the process is gone: no {path}"))?;
        Ok(self.tick * ticks(&stat).with_context(|| format!("{path} has an unknown form"))?)
    }

    /// Resident bytes now.
    pub fn resident(&self) -> anyhow::Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let status =
            std::fs::read_to_string(&path).with_context(|| format!("the process is gone: no {path}"))?;
        resident(&status).with_context(|| format!("{path} has an unknown form"))
    }
}

/// utime and stime, the 14th and 15th field of proc(5)'s `stat`. The second, the name, may hold spaces and parentheses.
fn ticks(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(11);
    let (user, system) = (times.next()?.parse::<u32>().ok()?, times.next()?.parse::<u32>().ok()?);
    Some(user + system)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// One core for the system under test, the others for load and sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores {
    /// As `taskset` takes it.
    pub subject: String,
    /// As `taskset` takes it.
    pub load: String,
    /// How many the load has.
    pub load_count: usize,
}

impl Cores {
    /// Divides what this process may use; `None` when there is only one core.
    pub fn divide() -> anyhow::Result<Option<Cores>> {
        let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let cores = cores(list.unwrap_or_default()).context("Cpus_allowed_list has an unknown form")?;
        let [first, others @ ..] = cores.as_slice() else { bail!("no core is allowed") };
        let names: Vec<String> = others.iter().map(u32::to_string).collect();
        let divided = Cores { subject: first.to_string(), load: names.join(","), load_count: others.len() };
        Ok((!others.is_empty()).then_some(divided))
    }

    /// Moves this process, all threads of it, to the load's cores.
    pub fn take_load(&self) -> anyhow::Result<()> {
        let pid = std::process::id().to_string();
        let output = Command::new("taskset").args(["-a", "-p", "-c", &self.load, &pid]).output();
        let output = output.context("cannot run taskset (install util-linux)")?;
        if !output.status.success() {
            bail!("taskset: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// The program, to be run on the subject's core.
    pub fn command(cores: Option<&Cores>, program: &Path) -> Command {
        match cores {
            None => Command::new(program),
            Some(cores) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cores.subject]).arg(program);
                command
            }
        }
    }
}

/// `0-2,5` is 0, 1, 2, 5.
fn cores(list: &str) -> Option<Vec<u32>> {
    let mut cores = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses() {
        let stat = "4217 (a (b) c) S 1 4217 4217 0 -1 4194304 900 0 0 0 731 52 0 0 20 0 4 0 8123 9 10";
        assert_eq!(ticks(stat), Some(783));
        assert_eq!(ticks("4217 (cut) S 1 2"), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        assert_eq!(resident("VmHWM:\t   20000 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n"), Some(12_641_280));
        assert_eq!(resident("Threads:\t3\n"), None);
    }

    #[test]
    fn a_process_can_account_for_itself() {
        let account = Account::new(std::process::id());
        assert!(account.resident().expect("this process has a status") > 100_000);
        let before = account.cpu().expect("this process has a stat");
        assert!(account.cpu().expect("this process has a stat") >= before);
        assert!(Account::new(u32::MAX).cpu().is_err());
    }

    #[test]
    fn a_list_of_cores_has_ranges() {
        assert_eq!(cores("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(cores("3"), Some(vec![3]));
        assert_eq!(cores("x"), None);
    }
}
