//! One program from a table of calls: a binary search over their numbers.
//!
//! The kernel pays for a filter three times: it checks and translates it when it is applied, runs it once for every call
//! number there is (to remember which are always allowed), and at each call. A chain of comparisons, which is what the
//! library makes of a table, costs some hundred steps each time, a tree eight. Neighbouring numbers with the same answer
//! are one leaf.
//!
//! ```text
//! architecture ─ load number ─ number >= m ? ──yes─▶ number >= r ? ─ ... ─▶ leaf: return, or look at arguments
//!                                   └────────no────▶ number >= l ? ─ ...
//! ```

use std::collections::BTreeMap;

use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, sock_filter};

/// The answer to one call.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    /// One of these has to match; none: any arguments do.
    pub(super) rules: Vec<SeccompRule>,
    pub(super) then: SeccompAction,
}

/// Call numbers and the answers to them.
pub(super) type Table = BTreeMap<i64, Verdict>;

/// The kernel's limit (`BPF_MAXINSNS`).
const MOST: usize = 4096;

// Classic BPF, as in the kernel's `filter.h`.
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Where a call's number is in what a filter sees.
const NUMBER: u32 = 0;

/// Compiles a table; `otherwise` is for calls that are not in it, and for arguments that no rule matches.
pub(super) fn compile(table: &Table, otherwise: &SeccompAction) -> Result<BpfProgram, BackendError> {
    let mut program = architecture()?;
    program.push(step(LOAD, NUMBER, 0, 0));
    let leaves = leaves(table, otherwise);
    program.append(&mut search(&leaves));
    match program.len() {
        length if length < MOST => Ok(program),
        length => Err(BackendError::FilterTooLarge(length)),
    }
}

/// Another architecture's calls have other numbers: they end the process. The library's own first steps.
fn architecture() -> Result<BpfProgram, BackendError> {
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let nothing = SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, SeccompAction::KillProcess, here)?;
    let mut program: BpfProgram = nothing.try_into()?;
    // Its answer.
    program.pop();
    Ok(program)
}

/// What is done from a number on, up to the next leaf's.
#[derive(Debug)]
struct Leaf {
    from: u32,
    program: BpfProgram,
}

/// From 0 on, without a gap. Numbers beyond the table, such as those of x32, meet its last leaf.
fn leaves(table: &Table, otherwise: &SeccompAction) -> Vec<Leaf> {
    let refused = || vec![answer(otherwise)];
    let mut leaves = vec![Leaf { from: 0, program: refused() }];
    let mut add = |from: u32, program: BpfProgram| match leaves.last_mut() {
        Some(last) if last.program == program => {}
        Some(last) if last.from == from => last.program = program,
        _ => leaves.push(Leaf { from, program }),
    };
    // A call's number fits; one that does not is no call.
    let known = table.iter().filter_map(|(number, verdict)| Some((u32::try_from(*number).ok()?, verdict)));
    for (number, verdict) in known {
        add(number, decide(verdict, otherwise));
        if let (Some(next), false) = (number.checked_add(1), table.contains_key(&(i64::from(number) + 1))) {
            add(next, refused());
        }
    }
    leaves
}

fn decide(verdict: &Verdict, otherwise: &SeccompAction) -> BpfProgram {
    let Verdict { rules, then } = verdict;
    if rules.is_empty() {
        return vec![answer(then)];
    }
    let mut program = BpfProgram::new();
    for rule in rules {
        program.append(&mut rule.clone().into());
        // Jumped over when the rule does not match.
        program.push(answer(then));
    }
    program.push(answer(otherwise));
    program
}

/// Halves until one is left; every leaf returns, so nothing runs on into its neighbour.
fn search(leaves: &[Leaf]) -> BpfProgram {
    let (low, high) = leaves.split_at(leaves.len() / 2);
    let Some(first) = high.first().filter(|_| !low.is_empty()) else {
        return leaves.first().map(|leaf| leaf.program.clone()).unwrap_or_default();
    };
    let (mut low, from) = (search(low), first.from);
    let mut program = match u8::try_from(low.len()) {
        Ok(over) => vec![step(JUMP_IF_NOT_LESS, from, over, 0)],
        // A comparison jumps over 255 steps at most.
        Err(_far) => vec![step(JUMP_IF_NOT_LESS, from, 0, 1), step(JUMP, count(low.len()), 0, 0)],
    };
    program.append(&mut low);
    program.append(&mut search(high));
    program
}

fn answer(action: &SeccompAction) -> sock_filter {
    step(RETURN, action.clone().into(), 0, 0)
}

fn step(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// More than the limit is refused at the end.
fn count(steps: usize) -> u32 {
    u32::try_from(steps).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::seccomp::{names, own};
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

    const REFUSED: SeccompAction = SeccompAction::Errno(1);

    /// The kernel's part: what a program answers, and in how many steps.
    fn run(program: &BpfProgram, number: u32, arguments: [u64; 6]) -> (u32, usize) {
        let arch = program[1].k;
        let word = |at: u32| match at {
            NUMBER => number,
            4 => arch,
            at => (arguments[(at as usize - 16) / 8] >> ((at - 16) % 8 * 8)) as u32,
        };
        let (mut at, mut a) = (0, 0_u32);
        for steps in 1.. {
            let sock_filter { code, jt, jf, k } = program[at];
            let branch = |holds: bool| usize::from(if holds { jt } else { jf });
            at += 1;
            match code {
                0x20 => a = word(k),
                0x54 => a &= k,
                0x05 => at += k as usize,
                0x15 => at += branch(a == k),
                0x25 => at += branch(a > k),
                0x35 => at += branch(a >= k),
                0x06 => return (k, steps),
                code => panic!("step {code:#x}"),
            }
        }
        unreachable!("a program returns");
    }

    fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompRule {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value).unwrap();
        SeccompRule::new(vec![condition]).unwrap()
    }

    fn allow(rules: Vec<SeccompRule>) -> Verdict {
        Verdict { rules, then: SeccompAction::Allow }
    }

    /// The same table through the library.
    fn chain(table: &Table) -> BpfProgram {
        let rules = table.iter().map(|(number, verdict)| (*number, verdict.rules.clone())).collect();
        let here = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        SeccompFilter::new(rules, REFUSED, SeccompAction::Allow, here).unwrap().try_into().unwrap()
    }

    fn same(table: &Table) {
        let (tree, chain) = (compile(table, &REFUSED).unwrap(), chain(table));
        let values = [0, 1, 2, 3, 7, 1 << 16, 1 << 32, u64::MAX];
        for number in (0..600).chain([0x4000_0000, 0x4000_0001, u32::MAX]) {
            for value in values {
                for other in values {
                    let arguments = [value, other, other, value, other, value];
                    assert_eq!(run(&tree, number, arguments).0, run(&chain, number, arguments).0, "call {number}");
                }
            }
        }
    }

    #[test]
    fn a_tree_answers_as_the_library_s_chain_does() {
        same(&Table::new());
        same(&Table::from([(0, allow(vec![]))]));
        let dense = (0..400).filter(|number| number % 7 != 0).map(|number| (number, allow(vec![]))).collect();
        same(&dense);
        let checked = [SeccompCmpOp::Eq, SeccompCmpOp::Ne, SeccompCmpOp::Ge, SeccompCmpOp::Gt, SeccompCmpOp::Le];
        let checked = checked.into_iter().enumerate().map(|(index, operator)| {
            let rules = vec![when(index as u8, operator, 3), when(5, SeccompCmpOp::MaskedEq(6), 2)];
            (i64::try_from(index * 3).unwrap(), allow(rules))
        });
        same(&checked.collect());
    }

    #[test]
    fn jumps_over_more_than_255_steps_arrive() {
        let rules =
            |number: i64| (0..12).map(|value| when(0, SeccompCmpOp::Eq, (number as u64) << 32 | value)).collect();
        let table: Table = (0..30).map(|number| (number * 2, allow(rules(number)))).collect();
        assert!(compile(&table, &REFUSED).unwrap().len() > 1024);
        same(&table);
    }

    #[test]
    fn a_table_that_is_too_large_for_the_kernel_is_refused() {
        let rules: Vec<_> = (0..900).map(|value| when(0, SeccompCmpOp::Eq, value)).collect();
        let error = compile(&Table::from([(1, allow(rules))]), &REFUSED).unwrap_err();
        assert!(matches!(error, BackendError::FilterTooLarge(_)), "{error}");
    }

    #[test]
    fn the_own_filter_is_short_for_every_call() {
        let table = own::table().unwrap();
        let program = compile(&table, &REFUSED).unwrap();
        let steps = (0..512).map(|number| run(&program, number, [0; 6]).1).max().unwrap();
        assert!(steps < 64, "{steps} steps for the worst call");
        assert!(program.len() < 400, "{} steps", program.len());
        let answer = |name: &str| run(&program, u32::try_from(names::number(name).unwrap()).unwrap(), [0; 6]).0;
        assert_eq!(answer("read"), u32::from(SeccompAction::Allow));
        assert_eq!(answer("execve"), u32::from(REFUSED));
        assert_eq!(answer("clone3"), u32::from(SeccompAction::Errno(libc::ENOSYS.cast_unsigned())));
    }
}
