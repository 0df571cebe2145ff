/**
 * Every error that gradshape raises on purpose. The message says what was given, what was expected and the fix;
 * `code` is stable, for programs.
 */
export class GradshapeError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'GradshapeError';
    this.code = code;
  }
}
