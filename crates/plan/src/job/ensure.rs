//! Turns seats into what an engine is asked to hold.

use super::draft::Draft;
use super::input::{JobInput, Restart, UnitKey};
use super::output::JobAction;
use super::view::{Member, UnitView};
use crate::preset::{Gang, JobWords, Peer};
use crate::slot::{Stage, Standing};
use base::Attempt;
use engine::{Group, Life, MountSource, Slot, Template};

/// Binds and ensures the unit's members that no engine has shown yet. `gang` are all members that the
/// unit's members know as peers, in rank order.
pub(super) fn ensure_members(draft: &mut Draft<'_>, unit: &UnitView<'_>, gang: &[&Member<'_>]) {
    let missing: Vec<&Member<'_>> = unit
        .members
        .iter()
        .filter(|member| {
            matches!(
                member.standing,
                Standing::Unasked | Standing::Unseen { releasing: None }
            )
        })
        .collect();
    let unbound: Vec<_> = missing
        .iter()
        .filter(|member| member.state.placement.stage == Stage::Reserved)
        .map(|member| (member.state.group.clone(), member.state.index))
        .collect();
    if !unbound.is_empty() {
        draft.start.push(JobAction::Bind {
            unit: unit.key.clone(),
            attempt: unit.state.attempt,
            members: unbound,
        });
    }
    let input = draft.input;
    for (position, group) in input.spec.groups.iter().enumerate() {
        let slots: Vec<Slot> = missing
            .iter()
            .filter(|member| member.group == position)
            .map(|member| slot(input, unit, member, gang))
            .collect();
        if slots.is_empty() {
            continue;
        }
        draft.start.push(JobAction::Ensure(Box::new(Group {
            owner: input.uid,
            name: group.name.clone(),
            title: format!("job/{}", input.name),
            tenant: input.tenant.clone(),
            project: input.project.clone(),
            life: Life::Batch,
            template: template(&group.template, &unit.key),
            slots,
        })));
    }
}

/// The indexes of an array keep checkpoints apart, so each gets the template with its own claim.
fn template(template: &Template, unit: &UnitKey) -> Template {
    let mut template = template.clone();
    if let UnitKey::Index(index) = unit {
        for mount in &mut template.mounts {
            if let MountSource::Checkpoint(claim) = &mut mount.source {
                *claim = index.to_string();
            }
        }
    }
    template
}

fn slot(input: &JobInput, unit: &UnitView<'_>, member: &Member<'_>, gang: &[&Member<'_>]) -> Slot {
    let placement = &member.state.placement;
    Slot {
        index: member.state.index,
        attempt: unit.state.attempt,
        node: placement.node.clone(),
        devices: placement.devices.clone(),
        ports: placement.ports.clone(),
        env: env(input, member, gang, unit.state.attempt),
        token: placement.token.clone(),
    }
}

fn env(
    input: &JobInput,
    member: &Member<'_>,
    gang: &[&Member<'_>],
    attempt: Attempt,
) -> Vec<(String, String)> {
    let peers = gang
        .iter()
        .map(|peer| Peer {
            group: &peer.state.group,
            index: peer.state.index,
            host: &peer.state.placement.host,
            ports: &peer.state.placement.ports,
            declared: input.spec.groups[peer.group]
                .template
                .ports
                .iter()
                .map(|port| (port.name.as_str(), port.number))
                .collect(),
        })
        .collect();
    let rank = gang
        .iter()
        .position(|peer| peer.key == member.key)
        .expect("a member is among its own peers");
    let array = match input.spec.restart {
        Restart::Index { count, .. } => Some((member.state.index, count)),
        Restart::Gang | Restart::Rank => None,
    };
    let job = JobWords {
        name: &input.name,
        project: &input.project,
        attempt,
        array,
    };
    Gang { peers }.member_env(input.spec.framework, &job, rank)
}
