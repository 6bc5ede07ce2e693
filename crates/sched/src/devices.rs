//! The devices of one node: what is left of each, and which a member gets.
//!
//! A device is given whole, shared by thousandths and memory, cut into partitions by its vendor's table
//! (MIG), or shared by lanes that it carries (virtual functions and bandwidth of a network port).

use crate::amount::{Amount, lane_amount};
use crate::ask::{Ask, Within, tolerates};
use crate::decision::{DeviceShare, Partition};
use crate::event::{DeviceSpec, PARTITION_SLICES_MAX, Taint, TaintEffect};
use crate::names::{Name, Names};
use base::Bytes;

/// The most devices of one node; more are ignored.
pub(crate) const DEVICES_MAX: usize = 64;

/// One device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) id: Box<str>,
    pub(crate) class: Name,
    pub(crate) model: Name,
    pub(crate) memory: i64,
    /// Thousandths left; below zero where capacity is claimed before it is free.
    pub(crate) left: i32,
    pub(crate) memory_left: i64,
    pub(crate) healthy: bool,
    /// Held, but not in the node's last list.
    pub(crate) missing: bool,
    pub(crate) link_group: u16,
    pub(crate) numa: u16,
    /// Members that hold a part that was cut out of it.
    cut_users: u16,
    /// What few devices have.
    pub(crate) extra: Option<Box<Extra>>,
}

/// What few devices have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extra {
    pub(crate) taints: Box<[Taint]>,
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) cuts: Box<[Cut]>,
    /// How many members use each slice.
    slices: [u8; PARTITION_SLICES_MAX as usize],
    /// Members that share its lanes.
    sharers: u32,
}

/// An extended resource that a device carries in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) name: Name,
    pub(crate) total: i64,
    left: i64,
}

/// A way to cut it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) name: Name,
    pub(crate) slices: u8,
    starts: Box<[u8]>,
    milli: u16,
}

impl Cut {
    /// The most parts of this kind that one device gives.
    pub(crate) fn count_max(&self) -> i64 {
        let mut end = 0;
        let mut count = 0;
        for start in &self.starts {
            if *start >= end {
                count += 1;
                end = start + self.slices;
            }
        }
        count
    }
}

impl Device {
    pub(crate) fn new(spec: &DeviceSpec, names: &mut Names) -> Device {
        let memory = lane_amount(spec.memory.0);
        let plain = spec.taints.is_empty() && spec.lanes.is_empty() && spec.partitions.is_empty();
        let extra = (!plain).then(|| {
            let lanes = spec.lanes.iter().map(|(name, total)| Lane {
                name: names.intern(name),
                total: lane_amount(*total),
                left: lane_amount(*total),
            });
            let lanes = lanes.collect();
            let cuts = spec.partitions.iter().map(|cut| {
                let slices = cut.slices.clamp(1, PARTITION_SLICES_MAX);
                let mut starts = cut.starts.clone();
                starts.retain(|start| *start <= PARTITION_SLICES_MAX - slices);
                starts.sort_unstable();
                starts.dedup();
                Cut {
                    name: names.intern(&cut.name),
                    slices,
                    starts: starts.into_boxed_slice(),
                    milli: cut.milli.min(1_000),
                }
            });
            Box::new(Extra {
                taints: spec.taints.clone().into_boxed_slice(),
                lanes,
                cuts: cuts.collect(),
                slices: [0; PARTITION_SLICES_MAX as usize],
                sharers: 0,
            })
        });
        Device {
            id: spec.id.as_str().into(),
            class: names.intern(&spec.class),
            model: names.intern(&spec.model),
            memory,
            left: 1_000,
            memory_left: memory,
            healthy: spec.healthy,
            missing: false,
            link_group: spec.link_group,
            numa: spec.numa,
            cut_users: 0,
            extra,
        }
    }

    /// The same device, sick and unused, kept aside because somebody still holds it.
    pub(crate) fn set_aside(self) -> Device {
        Device {
            healthy: false,
            missing: true,
            ..self.unused()
        }
    }

    /// The same device with nothing of it taken.
    fn unused(mut self) -> Device {
        self.left = 1_000;
        self.memory_left = self.memory;
        self.cut_users = 0;
        if let Some(extra) = &mut self.extra {
            extra.slices = [0; PARTITION_SLICES_MAX as usize];
            extra.sharers = 0;
            for lane in &mut extra.lanes {
                lane.left = lane.total;
            }
        }
        self
    }

    /// Whether it is declared as another one is, whatever is taken of either.
    pub(crate) fn is_declared_as(&self, other: &Device) -> bool {
        self.id == other.id && self.clone().unused() == other.clone().unused()
    }

    pub(crate) fn lanes(&self) -> &[Lane] {
        self.extra.as_ref().map_or(&[], |extra| &extra.lanes)
    }

    pub(crate) fn cuts(&self) -> &[Cut] {
        self.extra.as_ref().map_or(&[], |extra| &extra.cuts)
    }

    pub(crate) fn taints(&self) -> &[Taint] {
        self.extra.as_ref().map_or(&[], |extra| &extra.taints)
    }

    fn is_cut(&self) -> bool {
        self.cut_users > 0
    }

    fn is_shared_by_lanes(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.sharers > 0)
    }

    /// Takes or gives back what one share of it stands for; `amount` is the member's whole request.
    pub(crate) fn use_share(
        &mut self,
        share: &DeviceShare,
        amount: &Amount,
        lane_of: &dyn Fn(Name) -> Option<usize>,
        sign: i32,
    ) {
        let memory = if share.memory.0 > 0 {
            lane_amount(share.memory.0)
        } else {
            self.memory / 1_000 * i64::from(share.milli)
        };
        self.left += sign * i32::from(share.milli);
        self.memory_left += i64::from(sign) * memory;
        if share.partition.is_some() {
            self.cut_users = if sign < 0 {
                self.cut_users.saturating_add(1)
            } else {
                self.cut_users.saturating_sub(1)
            };
        }
        let Some(extra) = &mut self.extra else { return };
        if let Some(partition) = share.partition {
            let first = usize::from(partition.first).min(extra.slices.len());
            let end = (first + usize::from(partition.slices)).min(extra.slices.len());
            for users in &mut extra.slices[first..end] {
                *users = if sign < 0 {
                    users.saturating_add(1)
                } else {
                    users.saturating_sub(1)
                };
            }
        } else if share.milli == 0 {
            extra.sharers = if sign < 0 {
                extra.sharers + 1
            } else {
                extra.sharers.saturating_sub(1)
            };
            for lane in &mut extra.lanes {
                if let Some(at) = lane_of(lane.name) {
                    lane.left += i64::from(sign) * amount.0[at];
                }
            }
        }
    }

    /// Whether it may be used at all by whoever asks.
    pub(crate) fn is_open(&self, ask: &Ask) -> bool {
        self.healthy
            && self.taints().iter().all(|taint| {
                taint.effect == TaintEffect::PreferNoSchedule || tolerates(&ask.tolerations, taint)
            })
    }

    pub(crate) fn is_of_model(&self, ask: &Ask) -> bool {
        ask.models.is_empty() || ask.models.contains(&self.model)
    }
}

/// Whether a whole GPU is free for a member.
pub(crate) fn whole_free(device: &Device, ask: &Ask, gpu: Name) -> bool {
    device.class == gpu
        && device.left >= 1_000
        && device.memory >= ask.gpu_memory
        && device.is_of_model(ask)
        && device.is_open(ask)
        && !device.is_cut()
}

/// Whether a member's part of a GPU is free.
pub(crate) fn part_free(device: &Device, ask: &Ask, gpu: Name) -> bool {
    device.class == gpu
        && device.left >= ask.part
        && device.memory_left >= part_memory(device, ask)
        && device.is_of_model(ask)
        && device.is_open(ask)
        && !device.is_cut()
}

pub(crate) fn part_memory(device: &Device, ask: &Ask) -> i64 {
    if ask.gpu_memory > 0 {
        ask.gpu_memory
    } else {
        device.memory / 1_000 * i64::from(ask.part)
    }
}

/// Whether one member's devices are free.
pub(crate) fn devices_fit(devices: &[Device], ask: &Ask, gpu: Name) -> bool {
    if devices.is_empty() {
        return true;
    }
    if !ask.others.is_empty() || ask.within.is_some() {
        return pick(devices, ask, gpu).is_some();
    }
    if ask.gpus > 0 || ask.part > 0 {
        // A part goes onto a GPU that others share, or onto one more whole one.
        let (mut whole, mut part_needs) = (0, u32::from(ask.part > 0));
        for device in devices {
            if whole_free(device, ask, gpu) {
                whole += 1;
            } else if part_needs > 0 && part_free(device, ask, gpu) {
                part_needs = 0;
            }
            if whole >= ask.gpus.saturating_add(part_needs) {
                return true;
            }
        }
        return false;
    }
    true
}

/// How many members' devices are free, up to `max`.
pub(crate) fn count_devices(
    devices: &[Device],
    ask: &Ask,
    gpu: Name,
    lane_of: &dyn Fn(Name) -> Option<usize>,
    max: u32,
) -> u32 {
    if ask.part == 0 && ask.others.is_empty() && ask.within.is_none() {
        if ask.gpus == 0 {
            return max;
        }
        let whole = devices.iter().filter(|d| whole_free(d, ask, gpu)).count() as u32;
        return max.min(whole / ask.gpus);
    }
    let mut devices = devices.to_vec();
    for count in 0..max {
        let Some(shares) = pick(&devices, ask, gpu) else {
            return count;
        };
        if shares.is_empty() {
            return max;
        }
        for share in &shares {
            devices[share.device as usize].use_share(share, &ask.amount, lane_of, -1);
        }
    }
    max
}

/// How many members' devices an unused node would have; `None` where devices do not limit it.
pub(crate) fn count_devices_empty(devices: &[Device], ask: &Ask, gpu: Name) -> Option<i64> {
    if devices.is_empty() || (ask.gpus == 0 && ask.part == 0) {
        return None;
    }
    let good = |device: &&Device| {
        device.class == gpu
            && device.memory >= ask.gpu_memory
            && device.is_of_model(ask)
            && device.is_open(ask)
    };
    let gpus = i64::from(ask.gpus);
    if let Some(within) = ask.within {
        let good = devices.iter().filter(good);
        let mut groups: Vec<u16> = good.map(|d| within.group_of(d)).collect();
        groups.sort_unstable();
        let whole = groups.chunk_by(|a, b| a == b);
        return Some(whole.map(|group| group.len() as i64 / gpus.max(1)).sum());
    }
    let good = devices.iter().filter(good).count() as i64;
    let by_devices = match (gpus, i64::from(ask.part)) {
        (gpus, 0) => good / gpus,
        (0, part) => good * (1_000 / part),
        (gpus, _) => good / (gpus + 1),
    };
    Some(by_devices.max(i64::from(by_devices == 0 && good > gpus)))
}

/// Picks devices: a part goes where the least is left over, whole ones to the link group with the
/// fewest free devices that holds them all, a partition where it spoils the fewest other places.
pub(crate) fn pick(devices: &[Device], ask: &Ask, gpu: Name) -> Option<Vec<DeviceShare>> {
    let mut shares = Vec::new();
    if devices.is_empty() {
        return Some(shares);
    }
    if ask.part > 0 {
        let (at, device) = devices
            .iter()
            .enumerate()
            .filter(|(_, d)| part_free(d, ask, gpu))
            .min_by_key(|(at, d)| (d.left, *at))?;
        shares.push(part_of(at as u16, device, ask));
    }
    pick_others(devices, ask, gpu, shares)
}

/// The same, with the part of a GPU on a given device.
pub(crate) fn pick_on(
    devices: &[Device],
    ask: &Ask,
    gpu: Name,
    device: u16,
) -> Option<Vec<DeviceShare>> {
    let share = part_of(device, &devices[device as usize], ask);
    pick_others(devices, ask, gpu, vec![share])
}

fn part_of(at: u16, device: &Device, ask: &Ask) -> DeviceShare {
    let memory = if ask.gpu_memory > 0 {
        part_memory(device, ask)
    } else {
        0
    };
    DeviceShare {
        device: at,
        milli: ask.part as u16,
        memory: Bytes(memory as u64),
        partition: None,
    }
}

/// Everything but the part of a GPU, which is in `shares` already.
fn pick_others(
    devices: &[Device],
    ask: &Ask,
    gpu: Name,
    mut shares: Vec<DeviceShare>,
) -> Option<Vec<DeviceShare>> {
    if ask.gpus > 0 {
        let taken = shares.first().map(|share| share.device);
        let free: Vec<(u16, &Device)> = devices
            .iter()
            .enumerate()
            .map(|(at, d)| (at as u16, d))
            .filter(|(at, d)| whole_free(d, ask, gpu) && Some(*at) != taken)
            .collect();
        let linked = pick_linked(&free, ask.gpus, ask.within)?;
        shares.extend(linked.into_iter().map(whole));
    }
    let mut carried: Vec<(Name, usize)> = Vec::new();
    for other in &ask.others {
        if devices.iter().any(|d| d.class == other.name) {
            pick_whole(devices, ask, (other.name, other.count), &mut shares)?;
        } else if devices.iter().any(|d| cut_of(d, other.name).is_some()) {
            pick_cuts(devices, ask, (other.name, other.count), &mut shares)?;
        } else if devices.iter().any(|d| carries(d, other.name)) {
            carried.push((other.name, other.lane));
        }
        // Else the node has it without devices, and the lane has spoken.
    }
    pick_carriers(devices, ask, carried, &mut shares)?;
    Some(shares)
}

fn pick_whole(
    devices: &[Device],
    ask: &Ask,
    (class, count): (Name, u32),
    shares: &mut Vec<DeviceShare>,
) -> Option<()> {
    let free: Vec<u16> = devices
        .iter()
        .enumerate()
        .filter(|(_, d)| d.class == class && d.left >= 1_000 && d.is_open(ask))
        .filter(|(_, d)| !d.is_shared_by_lanes())
        .map(|(at, _)| at as u16)
        .take(count as usize)
        .collect();
    if free.len() < count as usize {
        return None;
    }
    shares.extend(free.into_iter().map(whole));
    Some(())
}

fn cut_of(device: &Device, name: Name) -> Option<&Cut> {
    device.cuts().iter().find(|cut| cut.name == name)
}

fn carries(device: &Device, name: Name) -> bool {
    device.lanes().iter().any(|lane| lane.name == name)
}

/// Slices of a device as a mask: used ones, or those of a part.
fn used_slices(device: &Device) -> u32 {
    let extra = device.extra.as_ref();
    let slices = extra.map_or(&[][..], |extra| &extra.slices[..]);
    let used = slices.iter().enumerate().filter(|(_, users)| **users > 0);
    used.fold(0, |mask, (at, _)| mask | 1 << at)
}

fn slice_mask(first: u8, slices: u8) -> u32 {
    ((1u32 << slices) - 1) << first
}

/// How many parts of any kind could still be cut, each for itself.
fn places_left(device: &Device, used: u32) -> usize {
    let cuts = device.cuts().iter();
    cuts.map(|cut| {
        let open = cut.starts.iter();
        open.filter(|start| used & slice_mask(**start, cut.slices) == 0)
            .count()
    })
    .sum()
}

/// Where a part is best cut out of a node's devices.
struct BestCut {
    device: u16,
    first: u8,
    milli: u16,
    /// How many other places it spoils.
    lost: usize,
}

/// The best place for one more part beside those in `shares`: where the fewest other places are spoilt, then on
/// the fullest device.
fn best_cut(devices: &[Device], ask: &Ask, name: Name, shares: &[DeviceShare]) -> Option<BestCut> {
    let mut best: Option<((usize, u32), BestCut)> = None;
    for (at, device) in devices.iter().enumerate() {
        let at = at as u16;
        let Some(cut) = cut_of(device, name) else {
            continue;
        };
        let mine = shares.iter().filter(|share| share.device == at);
        let mut used = used_slices(device);
        let mut left = device.left;
        let mut whole = false;
        for share in mine {
            match share.partition {
                Some(part) => used |= slice_mask(part.first, part.slices),
                None => whole = true,
            }
            left -= i32::from(share.milli);
        }
        let shared = !device.is_cut() && device.left < 1_000;
        if whole || shared || !device.is_open(ask) || !device.is_of_model(ask) {
            continue;
        }
        let before = places_left(device, used);
        for start in &cut.starts {
            let mask = slice_mask(*start, cut.slices);
            if used & mask != 0 || left < i32::from(cut.milli) {
                continue;
            }
            let lost = before - places_left(device, used | mask);
            let rank = (lost, u32::MAX - used.count_ones());
            if best.as_ref().is_none_or(|(least, _)| rank < *least) {
                let found = BestCut {
                    device: at,
                    first: *start,
                    milli: cut.milli,
                    lost,
                };
                best = Some((rank, found));
            }
        }
    }
    best.map(|(_, found)| found)
}

/// How well a member's first cut sits on a node: how many other places it spoils, how many slices of its device
/// are used, and how many of all.
pub(crate) fn cut_fit(devices: &[Device], ask: &Ask) -> Option<(usize, u32, u32)> {
    let is_cut = |name| devices.iter().any(|d| cut_of(d, name).is_some());
    let other = ask.others.iter().find(|other| is_cut(other.name))?;
    let best = best_cut(devices, ask, other.name, &[])?;
    let used = |device: &Device| used_slices(device).count_ones();
    let all = devices.iter().map(used).sum();
    Some((best.lost, used(&devices[best.device as usize]), all))
}

fn pick_cuts(
    devices: &[Device],
    ask: &Ask,
    (name, count): (Name, u32),
    shares: &mut Vec<DeviceShare>,
) -> Option<()> {
    for _ in 0..count {
        let best = best_cut(devices, ask, name, shares)?;
        let slices = cut_of(&devices[best.device as usize], name)?.slices;
        shares.push(DeviceShare {
            device: best.device,
            milli: best.milli,
            memory: Bytes(0),
            partition: Some(Partition {
                first: best.first,
                slices,
            }),
        });
    }
    Some(())
}

/// One device for each set of lanes that devices carry together: the one with the least left over.
fn pick_carriers(
    devices: &[Device],
    ask: &Ask,
    mut carried: Vec<(Name, usize)>,
    shares: &mut Vec<DeviceShare>,
) -> Option<()> {
    while let Some((first, _)) = carried.first().copied() {
        let fits = |device: &Device| {
            let lanes = device.lanes().iter();
            let mut asked = lanes.filter_map(|lane| {
                let (_, at) = carried.iter().find(|(name, _)| *name == lane.name)?;
                Some((lane, ask.amount.0[*at]))
            });
            device.left >= 1_000 && device.is_open(ask) && asked.all(|(lane, n)| lane.left >= n)
        };
        let left = |device: &Device| {
            let lane = device.lanes().iter().find(|lane| lane.name == first);
            lane.map_or(0, |lane| lane.left)
        };
        let (at, device) = devices
            .iter()
            .enumerate()
            .filter(|(_, device)| carries(device, first) && fits(device))
            .min_by_key(|(at, device)| (left(device), *at))?;
        shares.push(DeviceShare {
            device: at as u16,
            milli: 0,
            memory: Bytes(0),
            partition: None,
        });
        carried.retain(|(name, _)| !carries(device, *name));
    }
    Some(())
}

fn whole(device: u16) -> DeviceShare {
    DeviceShare {
        device,
        milli: 1_000,
        memory: Bytes(0),
        partition: None,
    }
}

fn pick_linked(free: &[(u16, &Device)], count: u32, within: Option<Within>) -> Option<Vec<u16>> {
    let count = count as usize;
    if free.len() < count {
        return None;
    }
    let by = within.unwrap_or(Within::LinkGroup);
    let size = |group: u16| free.iter().filter(|(_, d)| by.group_of(d) == group).count();
    // Groups by (is it large enough, how little is left over, number); then NUMA node, then position.
    let mut order: Vec<(usize, u16, u16, u16)> = free
        .iter()
        .map(|(at, d)| {
            let group = by.group_of(d);
            let size = size(group);
            let rank = if size >= count {
                size
            } else {
                2 * DEVICES_MAX - size
            };
            (rank, group, d.numa, *at)
        })
        .collect();
    order.sort_unstable();
    if within.is_some() && order.first().is_some_and(|(rank, ..)| *rank > DEVICES_MAX) {
        return None;
    }
    Some(order.into_iter().take(count).map(|(.., at)| at).collect())
}
