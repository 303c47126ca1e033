//! The date of `Expires`, read as browsers read it (RFC 6265bis section 5.1.1): order and separators do not matter.

use crate::clock::Timestamp;

/// Reads a cookie-date; `None` where a browser would ignore the attribute. Times before 1970 become 1970.
///
/// ```
/// use portcullis::clock::Timestamp;
/// use portcullis::session::cookie::parse_cookie_date;
///
/// assert_eq!(parse_cookie_date(b"Thu, 01 Jan 1970 00:01:00 GMT"), Some(Timestamp::from_secs(60)));
/// ```
pub fn parse_cookie_date(text: &[u8]) -> Option<Timestamp> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(|byte| is_delimiter(*byte)).filter(|token| !token.is_empty()) {
        // The first production that has no value yet and matches takes the token.
        if time.is_none() {
            time = time_of_day(token);
            if time.is_some() {
                continue;
            }
        }
        if day.is_none() && fill(&mut day, number(token, 1, 2)) {
            continue;
        }
        if month.is_none() && fill(&mut month, month_of(token)) {
            continue;
        }
        if year.is_none() {
            fill(&mut year, number(token, 2, 4));
        }
    }
    let year = match year? {
        short @ 0..=69 => short + 2000,
        short @ 70..=99 => short + 1900,
        long => long,
    };
    let (time, day, month) = (time?, day?, month?);
    if time.hour > 23 || time.minute > 59 || time.second > 59 {
        return None;
    }
    if year < 1601 || day == 0 || day > days_in(month, year) {
        return None;
    }
    let seconds = time.hour * 3600 + time.minute * 60 + time.second;
    let days = days_since_1970(year, month, day);
    Some(days.map_or(Timestamp::EPOCH, |days| Timestamp::from_secs(days * 86_400 + seconds)))
}

fn fill(slot: &mut Option<u64>, found: Option<u64>) -> bool {
    *slot = found;
    found.is_some()
}

const fn is_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// The number at the front, of `min` to `max` digits, and what follows its digits.
fn leading_number(token: &[u8], min: usize, max: usize) -> Option<(u64, &[u8])> {
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits < min || digits > max {
        return None;
    }
    let (number, rest) = token.split_at_checked(digits)?;
    Some((number.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')), rest))
}

/// A token that begins with a number: what follows the digits does not matter.
fn number(token: &[u8], min: usize, max: usize) -> Option<u64> {
    leading_number(token, min, max).map(|(number, _)| number)
}

/// A time as it was written; the ranges are checked at the end, as a wrong time spoils the whole date.
struct TimeOfDay {
    hour: u64,
    minute: u64,
    second: u64,
}

/// `h:m:s` with one or two digits each.
fn time_of_day(token: &[u8]) -> Option<TimeOfDay> {
    let (hour, rest) = leading_number(token, 1, 2)?;
    let (minute, rest) = leading_number(rest.strip_prefix(b":")?, 1, 2)?;
    let (second, _) = leading_number(rest.strip_prefix(b":")?, 1, 2)?;
    Some(TimeOfDay { hour, minute, second })
}

fn month_of(token: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let name = token.first_chunk::<3>()?;
    (1..).zip(MONTHS).find(|(_, month)| name.eq_ignore_ascii_case(*month)).map(|(number, _)| number)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(month: u64, year: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 to the date, `None` if it lies before. Years begin in March here, so that the leap day is the
/// last day of one.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, seconds: Option<u64>) {
        assert_eq!(parse_cookie_date(text.as_bytes()).map(Timestamp::as_secs), seconds, "{text}");
    }

    #[test]
    fn dates_in_the_three_http_formats_and_in_odd_ones() {
        const NINETIES: Option<u64> = Some(784_111_777);
        check("Sun, 06 Nov 1994 08:49:37 GMT", NINETIES);
        check("Sunday, 06-Nov-94 08:49:37 GMT", NINETIES);
        check("Sun Nov  6 08:49:37 1994", NINETIES);
        check("6 nov 1994 8:49:37", NINETIES);
        check("6/NOVEMBER/94/8:49:37zulu", NINETIES);
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799));
        check("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600));
        check("Wed, 21 Oct 2015 07:28:00 GMT", Some(1_445_412_480));
    }

    #[test]
    fn short_years_turn_at_seventy() {
        check("01 Jan 70 00:00:00", Some(0));
        check("01 Jan 69 00:00:00", Some(3_124_224_000));
        check("01 Jan 99 00:00:00", Some(915_148_800));
        check("01 Jan 00 00:00:00", Some(946_684_800));
    }

    #[test]
    fn a_time_before_1970_is_1970() {
        check("Mon, 01 Jan 1601 00:00:00 GMT", Some(0));
        check("31 Dec 1969 23:59:59", Some(0));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "0",
            "Session",
            "Jan 2024",
            "01 Jan 2024",
            "10:00:00 2024",
            "01 Foo 2024 10:00:00",
            "01 Jan 1600 00:00:00",
            "31 Apr 2024 00:00:00",
            "29 Feb 2023 00:00:00",
            "29 Feb 1900 00:00:00",
            "00 Jan 2024 00:00:00",
            "32 Jan 2024 00:00:00",
            "01 Jan 2024 24:00:00",
            "01 Jan 2024 00:60:00",
            "01 Jan 2024 00:00:60",
            "01 Jan 20245 00:00:00",
            "01 Jan 2 00:00:00",
            "01 Jan 2024 0000:00:00",
        ] {
            check(text, None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in proptest::collection::vec(any::<u8>(), 0..64)) {
            parse_cookie_date(&text);
        }

        #[test]
        fn agrees_with_a_calendar(seconds in 0i64..253_402_300_799) {
            let time = jiff::Timestamp::from_second(seconds).unwrap();
            let text = time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let read = parse_cookie_date(text.as_bytes()).map(Timestamp::as_secs);
            prop_assert_eq!(read, u64::try_from(seconds).ok(), "{}", text);
        }
    }
}
