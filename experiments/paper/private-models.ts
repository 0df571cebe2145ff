import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'csv-parse/sync';

/** A privately trained Purchase-100 model of the authors', at an epoch whose checkpoint they kept. */
export interface PrivateModel {
  readonly network: string;
  readonly noiseMultiplier: number;
  readonly epochs: number;
  readonly accuracy: number;
  /** As their folder's name has it. */
  readonly epsilon: number;
}

/** For each network and noise, the model of the last epoch there is: `private-models.csv` has them all. */
export function privateModels(): PrivateModel[] {
  const file = fileURLToPath(new URL('private-models.csv', import.meta.url));
  const rows: Record<string, string>[] = parse(readFileSync(file), { columns: true });
  const last = new Map<string, PrivateModel>();
  for (const row of rows) {
    const model: PrivateModel = {
      network: row.network!,
      noiseMultiplier: Number(row.noise_multiplier),
      epochs: Number(row.epochs),
      accuracy: Number(row.test_accuracy),
      epsilon: Number(row.epsilon),
    };
    const key = `${model.network} ${model.noiseMultiplier}`;
    if ((last.get(key)?.epochs ?? 0) < model.epochs) last.set(key, model);
  }
  return [...last.values()];
}
