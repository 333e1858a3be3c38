// The tasks of a result: of a call for several pictures each has a task of its own, and some may be ready before others.

/** @import { Image, PictureTask, Success } from "./types.d.ts" */

/**
 * Returns the tasks in their order.
 *
 * @param {Success} result
 * @returns {PictureTask[]}
 */
export function tasksOf({ task, tasks }) {
  return tasks?.length ? tasks : [task];
}

/**
 * Returns the references of the tasks in a state.
 *
 * @param {Success} result
 * @param {(state: string) => boolean} isMeant
 * @returns {string[]}
 */
export function refsOf(result, isMeant) {
  return tasksOf(result).flatMap(({ ref, state }) => (ref && isMeant(state) ? [ref] : []));
}

/**
 * Returns the pictures of the tasks that are completed; one that is processing may name a picture under a status that
 * nobody knows.
 *
 * @param {Success} result
 * @returns {Image[]}
 */
export function readyImages(result) {
  const refs = refsOf(result, isCompleted);
  return result.images.filter((image) => {
    return result.task.state === "completed" || refs.includes(refOf(image, result) ?? "");
  });
}

/**
 * Returns the task that made a picture.
 *
 * @param {Image} image
 * @param {Pick<Success, "task">} result
 */
export function refOf({ task_ref }, { task }) {
  return task_ref ?? task.ref;
}

/** @param {string} state */
export function isCompleted(state) {
  return state === "completed";
}

/** @param {string} state */
export function isProcessing(state) {
  return state === "processing";
}
