// Long work at a terminal: a progress bar when a person watches, and Ctrl-C that ends it cleanly.
//
// Always true: the bar goes to standard error and only to a terminal; the first SIGINT or SIGTERM
// aborts the work through its signal, so that it can remove what is half made; the handlers are gone
// when the work has ended.

import type { SingleBar } from 'cli-progress'
import { formatSize } from '../base/units.ts'

export interface Work {
  readonly signal: AbortSignal
  readonly onProgress: (progress: { doneBytes: number; totalBytes: number }) => void
}

/** Runs `work` with a signal that Ctrl-C fires and a progress callback. */
export async function withLongWork<T>(title: string, work: (work: Work) => Promise<T>): Promise<T> {
  const controller = new AbortController()
  const abort = (): void => controller.abort(new Error('interrupted'))
  process.on('SIGINT', abort)
  process.on('SIGTERM', abort)
  const bar = process.stderr.isTTY ? await ProgressBar.make(title) : undefined
  try {
    return await work({
      signal: controller.signal,
      onProgress: (progress) => bar?.show(progress.doneBytes, progress.totalBytes),
    })
  } finally {
    bar?.stop()
    process.off('SIGINT', abort)
    process.off('SIGTERM', abort)
  }
}

class ProgressBar {
  readonly #bar: SingleBar
  #started = false

  private constructor(bar: SingleBar) {
    this.#bar = bar
  }

  static async make(title: string): Promise<ProgressBar> {
    const { Presets, SingleBar } = await import('cli-progress')
    const bar = new SingleBar(
      {
        format: `${title} {bar} {percentage}% | {doneText} of {totalText} | {eta_formatted} left`,
        stream: process.stderr,
        clearOnComplete: true,
        hideCursor: true,
      },
      Presets.shades_classic,
    )
    return new ProgressBar(bar)
  }

  show(doneBytes: number, totalBytes: number): void {
    const payload = { doneText: formatSize(doneBytes), totalText: formatSize(totalBytes) }
    if (!this.#started) this.#bar.start(totalBytes, doneBytes, payload)
    else this.#bar.update(doneBytes, payload)
    this.#started = true
  }

  stop(): void {
    if (this.#started) this.#bar.stop()
  }
}
