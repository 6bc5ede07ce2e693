use super::Fade;
use base::Span;

#[test]
fn each_half_life_halves() {
    let half = Span::from_secs(3_600);
    for (seconds, left) in [
        (0, 1_000_000),
        (3_600, 500_000),
        (7_200, 250_000),
        (1_800, 707_106),
    ] {
        let fade = Fade::after(Span::from_secs(seconds), half);
        assert_eq!(fade.between(1_000_000, 0), left, "after {seconds} s");
    }
    assert_eq!(Fade::after(Span::from_secs(1 << 30), half).between(7, 3), 3);
}

#[test]
fn many_short_steps_fade_as_one_long() {
    let half = Span::from_secs(1_000);
    let mut past = 1_000_000_000_i64;
    for _ in 0..1_000 {
        past = Fade::after(Span::from_secs(1), half).between(past, 0);
    }
    assert!((past - 500_000_000).abs() < 100_000, "{past}");
}
