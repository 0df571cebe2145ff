import { tenSteps } from './ten-steps.js';

export default {
  async fetch() {
    return Response.json({ base: await tenSteps('base'), relaxed: null });
  },
};
