//! Tasks from their rows, at the start of a term.

use super::scheduler::TaskOwner;
use super::{Control, ControlError, OwnerKind, apps, foreign, jobs, rows, ties};
use db::control::{Placement, Task};
use sched::{DeviceShare, SlotId, TaskId};

/// A task as the scheduler wants it, from its owner's rows; `None` where the owner is gone or not ready.
pub async fn task(
    control: &Control,
    task: &Task,
) -> Result<Option<(sched::TaskSpec, TaskOwner)>, ControlError> {
    let id = TaskId(task.uid);
    if task.owner_kind == OwnerKind::Pods.as_str() {
        return foreign::rebuilt(control, task).await;
    }
    if task.owner_kind == "App" {
        let Some(rows) = rows::load_app(&control.db, task.owner).await? else {
            return Ok(None);
        };
        return apps::rebuilt(control, &rows, &task.unit, task.attempt, id, task.readmit).await;
    }
    let Some(rows) = rows::load_job(&control.db, task.owner).await? else {
        return Ok(None);
    };
    let Some(context) = jobs::context_if_ready(control, &rows).await? else {
        return Ok(None);
    };
    let Ok(unit) = task.unit.parse() else {
        return Ok(None);
    };
    let (mut spec, owner) = context.task(&unit, task.attempt, id, task.readmit);
    ties::tie(control, &context, &unit, &mut spec);
    Ok(Some((spec, owner)))
}

/// A placement as the scheduler wants it.
pub fn seat(
    control: &Control,
    owner: &TaskOwner,
    placement: &Placement,
) -> Option<sched::Placement> {
    let group = owner
        .groups
        .iter()
        .position(|group| group.name == placement.group)?;
    let index = placement.index.0.checked_sub(owner.groups[group].first.0)?;
    let node = control.node_id(&placement.node)?;
    let devices = placement
        .devices
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|device| {
            let position = control.device_position(&placement.node, device["id"].as_str()?)?;
            let milli = u16::try_from(device["milli"].as_u64()?).ok()?;
            let memory = base::Bytes(device["memory"].as_u64().unwrap_or(0));
            Some(DeviceShare {
                device: position,
                milli,
                memory,
                partition: None,
            })
        });
    Some(sched::Placement {
        slot: SlotId {
            group: u16::try_from(group).ok()?,
            index,
        },
        node: sched::NodeId(node),
        devices: devices.collect(),
    })
}
