// The hour, day, week, month and year that an instant falls in, as the calendar of a time zone has them.
//
// Always true: two instants have the same name exactly when they fall in the same period; the hour that a clock
// set back goes through twice is two hours; weeks are those of ISO 8601, from Monday.

const DAY_MS = 86_400_000

export type Period = 'hourly' | 'daily' | 'weekly' | 'monthly' | 'yearly'

export class Calendar {
  readonly timeZone: string
  readonly #format: Intl.DateTimeFormat

  /** @param timeZone IANA name, such as `Europe/Berlin` or `UTC` */
  constructor(timeZone: string) {
    this.timeZone = timeZone
    this.#format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      calendar: 'gregory',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      timeZoneName: 'longOffset',
    })
  }

  /** A name of the period, such as `2026-11-22`. */
  periodOf(timeMs: number, period: Period): string {
    const { year, month, day, hour, offset } = this.#parts(timeMs)
    switch (period) {
      case 'hourly':
        return `${year}-${month}-${day} ${hour} ${offset}`
      case 'daily':
        return `${year}-${month}-${day}`
      case 'weekly':
        return weekOf(year, month, day)
      case 'monthly':
        return `${year}-${month}`
      case 'yearly':
        return String(year)
    }
  }

  #parts(timeMs: number) {
    const found = new Map(this.#format.formatToParts(timeMs).map(({ type, value }) => [type, value]))
    const number = (type: Intl.DateTimeFormatPartTypes) => Number(found.get(type))
    return {
      year: number('year'),
      month: number('month'),
      day: number('day'),
      hour: number('hour'),
      offset: found.get('timeZoneName') ?? '',
    }
  }
}

/** The time zone of this process. */
export function localTimeZone(): string {
  return new Intl.DateTimeFormat().resolvedOptions().timeZone
}

/** A week belongs to the year that its Thursday is in. */
function weekOf(year: number, month: number, day: number): string {
  const at = new Date(Date.UTC(year, month - 1, day))
  const weekday = (at.getUTCDay() + 6) % 7
  const thursday = new Date(at.getTime() + (3 - weekday) * DAY_MS)
  const yearOfWeek = thursday.getUTCFullYear()
  const week = Math.floor((thursday.getTime() - Date.UTC(yearOfWeek, 0, 1)) / DAY_MS / 7) + 1
  return `${yearOfWeek}-W${week}`
}
