//! The machine that figures were measured on, in words.

use std::fs;
use std::process::Command;
use std::thread::available_parallelism;

/// Processor, cores, kernel and compiler of this machine; what cannot be found is left out.
#[must_use]
pub fn describe() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let compiler = Command::new("rustc")
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let cores = available_parallelism().map_or(1, usize::from);
    sentence(&cpu, cores, kernel.trim(), compiler.trim())
}

fn sentence(cpu: &str, cores: usize, kernel: &str, compiler: &str) -> String {
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim())
    };
    let mut parts = Vec::new();
    parts.extend(field("model name").map(str::to_owned));
    let cores = match cores {
        1 => "1 core".to_owned(),
        _ => format!("{cores} cores"),
    };
    let virtual_machine =
        field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    parts.push(if virtual_machine {
        format!("{cores} of a virtual machine")
    } else {
        cores
    });
    if !kernel.is_empty() {
        // What follows the number names a distribution's build.
        let number = kernel.split('-').next().unwrap_or(kernel);
        parts.push(format!("Linux {number}"));
    }
    // `rustc 1.95.0 (hash date)`: the hash says nothing to a reader.
    let compiler: Vec<_> = compiler.split(' ').take(2).collect();
    if compiler.len() == 2 {
        parts.push(compiler.join(" "));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_processor_cores_kernel_and_compiler() {
        let cpu = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu hypervisor tsc\n";
        assert_eq!(
            sentence(cpu, 2, "6.18.44-fc-v657", "rustc 1.95.0 (abc 2026-04-01)"),
            "AMD EPYC, 2 cores of a virtual machine, Linux 6.18.44, rustc 1.95.0"
        );
    }

    #[test]
    fn leaves_out_what_it_does_not_know() {
        assert_eq!(sentence("", 1, "", ""), "1 core");
    }
}
