//! Reservations of a queue.

use super::{Errors, platform, syntax};
use crate::platform::{AmountSpec, QueueSpec};
use crate::reservation::{Reservation, time_of_day, time_zone};

/// The most reservations of a queue.
const RESERVATIONS_MAX: usize = 16;
/// The most moments of a day.
const STEPS_MAX: usize = 48;

pub(super) fn check(queue: &QueueSpec, errors: &mut Errors) {
    if queue.reservations.len() > RESERVATIONS_MAX {
        errors.add(
            "spec.reservations",
            format!(
                "has {} entries; at most {RESERVATIONS_MAX} are allowed",
                queue.reservations.len()
            ),
        );
    }
    for (i, reservation) in queue.reservations.iter().enumerate() {
        one(
            &format!("spec.reservations[{i}]"),
            queue,
            reservation,
            errors,
        );
    }
}

fn one(at: &str, queue: &QueueSpec, reservation: &Reservation, errors: &mut Errors) {
    if let Err(why) = syntax::label(&reservation.pool) {
        errors.add(format!("{at}.pool"), format!("the pool's name {why}"));
    }
    match (&reservation.once, reservation.daily.is_empty()) {
        (Some(_), false) => errors.add(at, "has both `once` and `daily`; write two reservations"),
        (None, true) => errors.add(
            at,
            "needs `once`, a window, or `daily`, the course of a day",
        ),
        (Some(_), true) | (None, false) => {}
    }
    if let Some(window) = &reservation.once {
        if window.until <= window.from {
            errors.add(format!("{at}.once.until"), "is not after `from`");
        }
        amount(
            &format!("{at}.once.amount"),
            queue,
            reservation,
            &window.amount,
            errors,
        );
        for (field, is_there) in [
            ("days", !reservation.days.is_empty()),
            ("timeZone", reservation.time_zone.is_some()),
        ] {
            if is_there {
                errors.add(format!("{at}.{field}"), "is for `daily` only");
            }
        }
    }
    daily(at, queue, reservation, errors);
    if let Some(name) = reservation.time_zone.as_deref()
        && time_zone(name).is_none()
    {
        errors.add(
            format!("{at}.timeZone"),
            format!("`{name}` is no time zone; write for example `Asia/Shanghai` or `UTC`"),
        );
    }
    for (i, day) in reservation.days.iter().enumerate() {
        if reservation.days[..i].contains(day) {
            errors.add(
                format!("{at}.days[{i}]"),
                format!("`{day:?}` is there twice"),
            );
        }
    }
}

fn daily(at: &str, queue: &QueueSpec, reservation: &Reservation, errors: &mut Errors) {
    let steps = &reservation.daily;
    if steps.len() > STEPS_MAX {
        errors.add(
            format!("{at}.daily"),
            format!(
                "has {} moments; at most {STEPS_MAX} are allowed",
                steps.len()
            ),
        );
    }
    for (i, step) in steps.iter().enumerate() {
        let at = format!("{at}.daily[{i}]");
        let moment = time_of_day(&step.at);
        if moment.is_none() {
            errors.add(
                format!("{at}.at"),
                format!("`{}` is no time of day; write for example `08:00`", step.at),
            );
        }
        if let Some(before) = i.checked_sub(1)
            && moment.is_some()
            && moment <= time_of_day(&steps[before].at)
        {
            errors.add(
                format!("{at}.at"),
                format!("`{}` is not after `{}`", step.at, steps[before].at),
            );
        }
        amount(
            &format!("{at}.amount"),
            queue,
            reservation,
            &step.amount,
            errors,
        );
    }
}

/// More than the queue may ever use could be kept free and not be used.
fn amount(
    at: &str,
    queue: &QueueSpec,
    reservation: &Reservation,
    amount: &AmountSpec,
    errors: &mut Errors,
) {
    platform::amount(at, amount, errors);
    let quota = queue.quotas.get(&reservation.pool);
    if let Some(quota) = quota.or_else(|| queue.quotas.get("*")) {
        platform::within_limit(at, amount, &quota.limit, errors);
    }
}
