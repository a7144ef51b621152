/** Ends all that is under way so that the next run of the workflow can go on with it: this one's history is long enough. */
export class Drained extends Error {
  constructor() {
    super('The workflow goes on in a new run');
    this.name = 'Drained';
  }
}
